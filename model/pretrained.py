"""Reading and writing a model folder, the hub's format: `config.json` and `model.safetensors`.

OpenAI's file and this project's modules use the same names, with two differences. OpenAI's code stores
the weight of a linear layer as [in, out] (it calls the layer Conv1D), PyTorch as [out, in]. And OpenAI's
file contains the causal masks, constants that are not needed here. Files from other sources differ
in a few more ways, which `read_weights` lists.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import tiktoken
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from data.files import write_whole
from data.flags import plain
from data.tokenizer import load_tokenizer
from model.gpt2 import GPT2, Attend, GPT2Config, attention
from model.hub import HUB, WEIGHTS_FILE, model_folder, weight_files
from model.speed.attention import fused_attention
from model.speed.empty import empty_model

# Stored [in, out]. attn.c_proj is square: without its transpose there is no error, but the model writes nonsense.
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
# Causal masks, by name. The same ending without the `attn.` is a parameter: `attn.c_attn.bias`, `ln_1.bias`.
MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
# Prefixes of names that wrappers add: the hub's library, torch.compile, data parallelism, the library trl.
PREFIX = re.compile(r"^((transformer|_orig_mod|module|pretrained_model)\.)+")
# Heads that the hub's libraries put beside a GPT-2, by name: for classes, rewards, answers.
OTHER_HEAD = re.compile(r"(score|v_head|multiple_choice_head|classifier|qa_outputs)\..+")
FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2}
# Larger sizes mean a damaged file. Checked first, since the model is built before its weights are read.
MOST_LAYERS, LARGEST = 1000, 10**6
# A vocabulary may have more rows than the tokenizer has tokens: added tokens, or padding to a round number, which
# makes products faster. A larger difference means that the tokenizer belongs to another model.
SPARE_ROWS = 1024


def open_model(name_or_folder: str | Path) -> tuple[Path, GPT2Config, tiktoken.Encoding]:
    """Return folder, sizes and tokenizer of a model, after checking that they fit together; weights are not read."""
    if (name := name_or_folder) in (*HUB, "lilliput") and Path(name).is_dir():
        whose = "OpenAI's model" if name in HUB else "the model that is shipped"
        print(f"note: {name} is {whose} here, not the folder {name}; name that one ./{name}", file=sys.stderr)
    folder = model_folder(name_or_folder)
    config, tokenizer = read_config(folder / "config.json"), load_tokenizer(folder)
    if not 0 <= config.vocab_size - tokenizer.n_vocab < SPARE_ROWS:
        raise ValueError(
            f"{folder}: config.json says {config.vocab_size} tokens, the tokenizer has {tokenizer.n_vocab}; "
            "take both from the same model"
        )
    for file in weight_files(folder):
        # A damaged file is refused when its weights are read.
        with suppress(SafetensorError, OSError), safe_open(file, framework="pt") as opened:
            for name in (name[:99] for name in opened.keys() if OTHER_HEAD.fullmatch(PREFIX.sub("", name))):
                print(plain(f"note: {folder}: {name} is left out; it is a head of another task"), file=sys.stderr)
    return folder, config, tokenizer


def never_drawn(tokenizer: tiktoken.Encoding, config: GPT2Config) -> list[int]:
    """`<|endoftext|>`, after which another text would begin, and the rows of the vocabulary that stand for no text."""
    return [i for i in range(config.vocab_size) if i >= tokenizer.n_vocab or tokenizer.is_special_token(i)]


def parameter_count(config: GPT2Config) -> int:
    return sum(p.numel() for p in empty_model(config, attention).parameters())


def load_pretrained(name_or_folder: str | Path, *, dropout: float = 0.0, attend: Attend = fused_attention) -> GPT2:
    """Load a model in float32 on the CPU, in eval mode.

    Args:
        name_or_folder: as for `model_folder`.
        dropout: probability for a fine-tune; the value in `config.json` (0.1) is for pretraining and not used.
        attend: how attention is computed, see gpt2.py.
    """
    folder = model_folder(name_or_folder)
    config = read_config(folder / "config.json", dropout=dropout)
    model = empty_model(config, attend)
    model.load_state_dict(read_weights(weight_files(folder), model), assign=True)
    return model


def read_config(file: Path, *, dropout: float = 0.0) -> GPT2Config:
    """Read the sizes in a `config.json`, and refuse what is not a GPT-2."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise ValueError("not a JSON object")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}); fetch it again") from None
    if (kind := raw.get("model_type", "gpt2")) != "gpt2":
        raise ValueError(f"{file}: model_type is {kind!r}, and only a 'gpt2' is built here; choose another model")
    sizes = {}
    for ours, theirs in {
        "vocab_size": "vocab_size",
        "block_size": "n_positions",
        "n_layer": "n_layer",
        "n_head": "n_head",
        "n_embd": "n_embd",
    }.items():
        sizes[ours] = raw.get(theirs)
        most = MOST_LAYERS if ours == "n_layer" else LARGEST
        if type(sizes[ours]) is not int or not 1 <= sizes[ours] <= most:
            raise ValueError(
                f"{file}: {theirs} is {sizes[ours]!r}, not a whole number from 1 to {most}; is this a GPT-2's config?"
            )
    if sizes["n_embd"] % sizes["n_head"]:
        raise ValueError(f"{file}: n_embd {sizes['n_embd']} is not a multiple of n_head {sizes['n_head']}")
    # Variants that transformers can build from the same file. This GPT-2 would run with them and give wrong results.
    for key, gpt2s in {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate"),
        "n_inner": (None, 4 * sizes["n_embd"]),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
        "tie_word_embeddings": (True,),
    }.items():
        if raw.get(key, gpt2s[0]) not in gpt2s:
            raise ValueError(f"{file}: {key} is {raw[key]!r}, GPT-2 has {gpt2s[0]!r}; this variant is not supported")
    epsilon = raw.get("layer_norm_epsilon", 1e-5)
    if type(epsilon) not in (int, float) or not 0 < epsilon < 1:
        raise ValueError(f"{file}: layer_norm_epsilon is {epsilon!r}, not a small number above 0; GPT-2 has 1e-5")
    return GPT2Config(**sizes, layer_norm_epsilon=epsilon, dropout=dropout)


def read_weights(files: list[Path], model: GPT2) -> dict[str, Tensor]:
    """Read the tensors of a GPT-2 as a state dict for `model`, of which only names and shapes are used.

    Accepts masks, a head that equals `wte` or replaces it, other heads, any `PREFIX`, and linear layers that are all
    stored [out, in]. Refuses tensors that are missing, unknown, stored twice, not finite or of the wrong shape or type.
    """
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}
    shapes = expected | {"lm_head.weight": expected["wte.weight"]}
    found, unknown = {}, []
    for stored_name, tensor in stored_tensors(files):
        name = PREFIX.sub("", stored_name)
        if name in shapes and name not in found:
            found[name] = tensor
        elif not MASK.fullmatch(name) and not OTHER_HEAD.fullmatch(name):
            unknown.append(stored_name)

    # The linear layers that are not square show whether all are transposed; attn.c_proj fits both ways.
    linear = [name for name in found if name.endswith(TRANSPOSED)]
    transposed = not all(found[name].shape == expected[name] for name in linear)
    stored = shapes | {name: expected[name][::-1] for name in linear if transposed}
    misshapen = [
        f"{name} {list(tensor.shape)} {tensor.dtype}, not {list(stored[name])}"
        for name, tensor in found.items()
        if tensor.shape != stored[name] or tensor.dtype not in FLOATS
    ]
    if "lm_head.weight" in found:
        found.setdefault("wte.weight", found["lm_head.weight"])  # safetensors' save_model keeps one of the two
    missing = [name for name in expected if name not in found]
    complain(files[0], {"missing": missing, "unknown": unknown, "of the wrong shape or type": misshapen})
    head = found.pop("lm_head.weight", None)
    weights = {}
    for name, tensor in found.items():
        tensor = tensor.t() if name in linear and transposed else tensor
        # A copy, because safetensors may return the file itself, mapped into memory.
        weights[name] = tensor.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    complain(files[0], {"not finite": [name for name, weight in weights.items() if not weight.sum().isfinite()]})
    if head is not None and not torch.equal(head.to(torch.float32), weights["wte.weight"]):
        raise ValueError(f"{files[0]}: lm_head.weight differs from wte.weight; GPT-2's head is tied to its embedding")
    return weights


def stored_tensors(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    for file in files:
        try:
            yield from read_tensors(file)[0].items()
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{file} cannot be read: {what_is_wrong(file)} ({error})") from None


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file by name, and its metadata."""
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}
    except (OSError, RuntimeError, SafetensorError):  # a disk that maps no file into memory, a name that is not UTF-8
        content = file.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return load(content), header.get("__metadata__", {})


def complain(file: Path, problems: dict[str, list[str]]) -> None:
    """Raise a ValueError with one example of each problem and the number of others, if there is any problem."""
    said = [
        f"{problem}: {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for problem, names in problems.items()
        if names
    ]
    if said:
        raise ValueError(f"{file} does not fit its config.json as a GPT-2: {'; '.join(said)}")


def what_is_wrong(file: Path) -> str:
    """Guess from its first bytes what a file is that cannot be read as safetensors."""
    with open(file, "rb") as opened:
        head = opened.read(64).lstrip()
    if head.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer, not the weights; run `git lfs pull`, or download the file itself"
    if head.startswith(b"<"):
        return "it is a web page, not the weights; download the file itself"
    return "it is damaged or cut short; download it again"


def hub_config(config: GPT2Config, end_of_text: int) -> dict:
    """Return the content of `config.json`, with the names that the hub's library uses.

    Args:
        end_of_text: id of `<|endoftext|>`, which begins and ends a text.
    """
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


def save_pretrained(model: GPT2, folder: str | Path, *, end_of_text: int, dtype: torch.dtype = torch.float32) -> None:
    """Write `config.json` and `model.safetensors` of `model` to `folder`, in the layout of OpenAI's file.

    With the tokenizer's two files (`data.tokenizer.save_tokenizer`) it is a complete model folder. Each file
    appears under its name only when it is complete, the weights last.

    Args:
        end_of_text: the tokenizer's id of `<|endoftext|>`.
        dtype: how the weights are stored; float16 halves the file, and `load_pretrained` reads both.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(hub_config(model.config, end_of_text), indent=2) + "\n"
    weights = {
        name: (p.detach().t() if name.endswith(TRANSPOSED) else p.detach()).to("cpu", dtype).contiguous()
        for name, p in model.named_parameters()
    }

    def write_weights(part: Path) -> None:
        save_file(weights, part, {"format": "pt"})
        with suppress(OSError):  # safetensors makes it readable by its owner alone, and some disks keep no such thing
            shutil.copymode(folder / "config.json", part)

    write_whole(folder / "config.json", lambda part: part.write_text(config, encoding="utf-8", newline="\n"))
    write_whole(folder / WEIGHTS_FILE, write_weights)
