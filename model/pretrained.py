"""Reading and writing a model folder, the hub's format: `config.json` and `model.safetensors`.

OpenAI's file and this project's modules have the same names; two things differ. OpenAI's code keeps
the weight of a linear layer as [in, out] (it calls the layer Conv1D), PyTorch as [out, in]. And its
file has the causal masks in it, constants that the weights do not need.
"""

import json
import os
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.gpt2 import GPT2, GPT2Config
from model.hub import model_folder
from model.speed.empty import empty_model

# Stored [in, out]. attn.c_proj is square, so leaving out its transpose raises no error: the model just writes nonsense.
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
# Causal masks, by name. The same ending without the `attn.` is a parameter: `attn.c_attn.bias`, `ln_1.bias`.
MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")


def load_pretrained(name_or_folder: str | Path, *, dropout: float = 0.0) -> GPT2:
    """The model in a folder, or OpenAI's of that name, in float32 on the CPU, in eval mode.

    Args:
        name_or_folder: gpt2, gpt2-medium, gpt2-large, gpt2-xl, or a folder.
        dropout: probability for a fine-tune; `config.json`'s own (0.1) is for pretraining and not used.

    Raises:
        ValueError: a file is damaged, or what it holds is not a GPT-2; the message says which names are off.
        FileNotFoundError, ConnectionError: as `model_folder`.
    """
    folder = model_folder(name_or_folder)
    config = read_config(folder / "config.json", dropout=dropout)
    model = empty_model(config)
    model.load_state_dict(read_weights(folder / "model.safetensors", model), assign=True)
    return model


def read_config(file: Path, *, dropout: float = 0.0) -> GPT2Config:
    """The sizes in a `config.json`.

    Raises:
        ValueError: not JSON, a size is missing or impossible, or it asks for something GPT-2 does not have.
    """
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise ValueError("not a JSON object")
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); fetch it again") from None
    sizes = {}
    for ours, theirs in {
        "vocab_size": "vocab_size",
        "block_size": "n_positions",
        "n_layer": "n_layer",
        "n_head": "n_head",
        "n_embd": "n_embd",
    }.items():
        sizes[ours] = raw.get(theirs)
        if type(sizes[ours]) is not int or sizes[ours] < 1:
            raise ValueError(
                f"{file}: {theirs} is {sizes[ours]!r}, not a positive whole number; is this a GPT-2's config?"
            )
    if sizes["n_embd"] % sizes["n_head"]:
        raise ValueError(f"{file}: n_embd {sizes['n_embd']} is not a multiple of n_head {sizes['n_head']}")
    # Variants that transformers can build from the same file; with our GPT-2 they would run and be wrong.
    for key, gpt2s in {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "n_inner": (None, 4 * sizes["n_embd"]),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
        "tie_word_embeddings": (True,),
    }.items():
        if raw.get(key, gpt2s[0]) not in gpt2s:
            raise ValueError(f"{file}: {key} is {raw[key]!r}, GPT-2 has {gpt2s[0]!r}; this variant is not supported")
    return GPT2Config(**sizes, layer_norm_epsilon=raw.get("layer_norm_epsilon", 1e-5), dropout=dropout)


def read_weights(file: Path, model: GPT2) -> dict[str, Tensor]:
    """The tensors of a GPT-2 file as a state dict for `model`, which only lends its names and shapes.

    Accepts names with and without the prefix `transformer.`, masks, and a head equal to `wte`.
    """
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}
    weights, head, unknown, misshapen = {}, None, [], []
    try:
        with safe_open(file, framework="pt") as opened:
            for stored_name in opened.keys():
                name = stored_name.removeprefix("transformer.")
                if MASK.fullmatch(name):
                    continue
                if name == "lm_head.weight":
                    head = opened.get_tensor(stored_name)
                    continue
                if name not in expected or name in weights:
                    unknown.append(stored_name)
                    continue
                tensor = opened.get_tensor(stored_name)
                if name.endswith(TRANSPOSED) and tensor.dim() == 2:
                    tensor = tensor.t()
                if tensor.shape != expected[name] or not tensor.is_floating_point():
                    misshapen.append(f"{stored_name} {list(tensor.shape)} {tensor.dtype}")
                # A copy: what safetensors hands out may be the file itself, mapped into memory.
                weights[name] = tensor.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} cannot be read: {what_is_wrong(file)} ({error})") from None
    problems = {
        "missing": [name for name in expected if name not in weights],
        "unknown": unknown,
        "of the wrong shape or type": misshapen,
    }
    if any(problems.values()):
        lists = "; ".join(f"{problem}: {', '.join(names)}" for problem, names in problems.items() if names)
        raise ValueError(f"{file} does not fit its config.json as a GPT-2: {lists}")
    if head is not None and not torch.equal(head.to(torch.float32), weights["wte.weight"]):
        raise ValueError(f"{file}: lm_head.weight differs from wte.weight; GPT-2's head is tied to its embedding")
    return weights


def what_is_wrong(file: Path) -> str:
    """A guess, from its first bytes, at what a file is that is no safetensors file."""
    with open(file, "rb") as opened:
        head = opened.read(64).lstrip()
    if head.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer, not the weights; run `git lfs pull`, or download the file itself"
    if head.startswith(b"<"):
        return "it is a web page, not the weights; download the file itself"
    return "it is damaged or cut short; download it again"


def hub_config(config: GPT2Config) -> dict:
    """What `config.json` says of a model, in the words of the hub's library."""
    end_of_text = config.vocab_size - 1
    return {
        "activation_function": "gelu_new",  # the tanh approximation, in transformers' words
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": config.dropout,
        "bos_token_id": end_of_text,
        "embd_pdrop": config.dropout,
        "eos_token_id": end_of_text,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "model_type": "gpt2",
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_layer": config.n_layer,
        "n_positions": config.block_size,
        "resid_pdrop": config.dropout,
        "vocab_size": config.vocab_size,
    }


def save_pretrained(
    model: GPT2, folder: str | Path, *, tokenizer_folder: str | Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write the four files of `model` to `folder`, in the layout of OpenAI's file.

    Args:
        tokenizer_folder: where `vocab.json` and `merges.txt` are copied from.
        dtype: how the weights are stored; float16 halves the file, and `load_pretrained` reads both.

    Each file appears under its name only when it is complete, the weights last.
    """
    folder, tokenizer_folder = Path(folder), Path(tokenizer_folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (p.detach().t() if name.endswith(TRANSPOSED) else p.detach()).to("cpu", dtype).contiguous()
        for name, p in model.named_parameters()
    }
    writers = {
        "config.json": lambda file: file.write_text(
            json.dumps(hub_config(model.config), indent=2) + "\n", encoding="utf-8", newline="\n"
        ),
        "vocab.json": lambda file: file.write_bytes((tokenizer_folder / "vocab.json").read_bytes()),
        "merges.txt": lambda file: file.write_bytes((tokenizer_folder / "merges.txt").read_bytes()),
        "model.safetensors": lambda file: save_file(weights, file, {"format": "pt"}),
    }
    for name, write in writers.items():
        part = folder / f"{name}.part"
        try:
            write(part)
            if name == "model.safetensors":  # safetensors makes it readable by its owner alone
                shutil.copymode(folder / "config.json", part)
            os.replace(part, folder / name)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
