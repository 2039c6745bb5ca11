"""Pretraining: a vocabulary and a small GPT-2 from nothing but a corpus of texts.

    python -m train.pretrain --corpus books.jsonl.xz --out model/lilliput

This is how a model such as Lilliput comes to be; fine-tuning (loop.py) starts where this ends.
What differs from the fine-tune is what a model with random weights needs: a learning rate that
warms up and then falls, gradients cut to a length, and a decay that spares biases and norms.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.batches import sample_batch
from data.tokenizer import load_tokenizer, save_tokenizer
from evaluate.flags import Parser, positive_float, positive_int
from evaluate.loss import text_loss
from model.device import device_of
from model.gpt2 import GPT2, GPT2Config
from model.pretrained import save_pretrained
from train.adamw import AdamW
from train.lasting.interruption import ending_in_one_line
from train.lasting.state import load_state, save_state
from train.pretrain.bpe import count_words, train_bpe
from train.pretrain.corpus import read_corpus
from train.speed.chunked_loss import chunked_next_token_loss
from train.speed.memory import keep_memory


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear from peak / warmup up to `peak`, then half a cosine down to 0 at `steps`.

    Warm-up because the second moments are a poor guess at first (Goyal et al. 2017 for the idea);
    the cosine from Loshchilov and Hutter 2017, "SGDR".
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def clip_gradients(parameters: Iterable[Tensor], longest: float) -> float:
    """Scale all gradients by one factor so that their joint length is at most `longest`; returns the length before.

    One bad batch then cannot throw the model far (Pascanu et al. 2013).
    """
    gradients = [p.grad for p in parameters]
    length = torch.stack([gradient.norm() for gradient in gradients]).norm().item()
    if length > longest:
        for gradient in gradients:
            gradient.mul_(longest / length)
    return length


def prepare_corpus(corpus: Path, folder: Path, vocab_size: int, held_out_texts: int, seed: int) -> dict:
    """Learn the vocabulary and tokenize the corpus, once: a second call finds the files in `folder`.

    Whole texts are held out, drawn by `seed`; the vocabulary is learned without them too. Each text
    starts with `<|endoftext|>`.

    Raises:
        ValueError: the files in `folder` were made of something else.

    Returns:
        names of the texts on both sides and the bytes and tokens of each; the tokens themselves go
        to `train.npy` and `held_out.npy`, and the vocabulary to `vocab.json` and `merges.txt`.
    """
    summary_file = folder / "corpus.json"
    made_of = {"corpus": corpus.name, "vocab_size": vocab_size, "held_out_texts": held_out_texts, "seed": seed}
    if summary_file.is_file():
        summary = json.loads(summary_file.read_text(encoding="utf-8"))
        refuse_changes(summary_file, made_of, {name: summary.get(name) for name in made_of})
        return summary
    texts = dict(read_corpus(corpus))
    if held_out_texts >= len(texts):
        raise ValueError(
            f"--held-out {held_out_texts} leaves none of the {len(texts)} texts to train on; hold out fewer"
        )
    held_out = set(np.random.default_rng([5, seed]).choice(list(texts), size=held_out_texts, replace=False).tolist())
    sides = {"train": [n for n in texts if n not in held_out], "held_out": [n for n in texts if n in held_out]}

    words = count_words(texts[name] for name in tqdm(sides["train"], "counting words", unit="text"))
    save_tokenizer(folder, train_bpe(words, vocab_size))
    tokenizer = load_tokenizer(folder)
    summary = dict(made_of)
    for side, names in sides.items():
        rows = []
        for name in tqdm(names, f"tokenizing, {side}", unit="text"):
            rows.append(np.array([tokenizer.eot_token, *tokenizer.encode_ordinary(texts[name])], dtype=np.uint16))
        np.save(folder / f"{side}.npy", np.concatenate(rows))
        summary[side] = {
            "texts": names,
            "bytes": sum(len(texts[name].encode("utf-8")) for name in names),
            "tokens": sum(map(len, rows)),
        }
    summary_file.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return summary


def refuse_changes(file: Path, wanted: dict, found: dict) -> None:
    """Raise a ValueError that names what differs between the settings asked for and those that made `file`."""
    changed = [f"{name} ({found.get(name)}, not {wanted[name]})" for name in wanted if wanted[name] != found.get(name)]
    if changed:
        raise ValueError(f"{file} was made with other settings: {', '.join(changed)}; use them, or another --out")


def pretrain(
    model: GPT2,
    tokens: Tensor,
    held_out: Tensor,
    held_out_bytes: int,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    warmup: int,
    weight_decay: float,
    clip: float,
    seed: int,
    bfloat16: bool,
    evaluate_every: int,
    state_file: Path,
    settings: dict,
) -> dict:
    """Train `model` in place; go on from `state_file`, of the same settings, if it is there.

    Returns:
        the record: `train_loss` (nats per token, mean over each stretch of `evaluate_every` steps),
        `held_out_loss` (nats per token), `held_out_bits_per_byte`, each a list of [step, value], and
        `seconds` of training.
    """
    device = model.wte.weight.device
    parameters = dict(model.named_parameters())
    # Decay pulls weights towards zero, which makes sense for the matrices. A norm's gain has no
    # business near zero, and a bias is too few numbers to over-fit with.
    matrices = [p for p in parameters.values() if p.dim() == 2]
    vectors = [p for p in parameters.values() if p.dim() == 1]
    optimizers = [
        AdamW(matrices, lr, betas=(0.9, 0.95), weight_decay=weight_decay),
        AdamW(vectors, lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    record = {"train_loss": [], "held_out_loss": [], "held_out_bits_per_byte": [], "seconds": 0.0}
    moments = {
        f"{kind}{group}.{i}": moment
        for group, optimizer in enumerate(optimizers)
        for kind in "mv"
        for i, moment in enumerate(getattr(optimizer, kind))
    }
    first = 0
    if state_file.is_file():
        tensors, info = load_state(state_file)
        with torch.no_grad():
            for name, tensor in (parameters | moments).items():
                tensor.copy_(tensors[name])
        first, record = info["step"], info["record"]
        for optimizer in optimizers:
            optimizer.steps = first
        print(f"going on from step {first} in {state_file}", flush=True)

    def in_training_precision():
        return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)

    began = time.monotonic() - record["seconds"]
    stretch = []
    progress = tqdm(range(first, steps), "pretraining", unit="step", initial=first, total=steps, mininterval=2)
    for step in progress:
        for optimizer in optimizers:
            optimizer.lr = learning_rate(step, steps, warmup, lr)
        inputs, targets = sample_batch(tokens, batch_size, model.config.block_size, seed, step)
        with in_training_precision():
            loss = chunked_next_token_loss(model, inputs.to(device), targets.to(device))
        loss.backward()
        clip_gradients(parameters.values(), clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        stretch.append(loss.item())
        if (step + 1) % evaluate_every == 0 or step + 1 == steps:
            with in_training_precision():
                held_out_loss = text_loss(model, held_out.to(device), model.config.block_size)
            bits_per_byte = held_out_loss * (len(held_out) - 1) / math.log(2) / held_out_bytes
            record["train_loss"].append([step + 1, sum(stretch) / len(stretch)])
            record["held_out_loss"].append([step + 1, held_out_loss])
            record["held_out_bits_per_byte"].append([step + 1, bits_per_byte])
            record["seconds"] = time.monotonic() - began
            stretch = []
            info = {"step": step + 1, "settings": settings, "record": record}
            save_state(state_file, parameters | moments, info)
            progress.write(
                f"step {step + 1}: training loss {record['train_loss'][-1][1]:.4f} nats, "
                f"held-out {held_out_loss:.4f} nats per token, {bits_per_byte:.4f} bits per byte",
                file=sys.stderr,
            )
    return record


def main() -> None:
    with ending_in_one_line():  # the next start goes on from the last state
        command()


def command() -> None:
    parser = Parser(
        prog="python -m train.pretrain",
        description="Train a byte-level BPE vocabulary and a small GPT-2 on a corpus. The same command again goes on "
        "where it stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder of .txt files, or a .jsonl(.xz) file")
    parser.add_argument("--out", type=Path, default=Path("runs/lilliput"), help="the model folder to write")
    parser.add_argument("--vocab-size", type=positive_int, default=4096, help="tokens, the 256 bytes included")
    parser.add_argument("--n-layer", type=positive_int, default=4, help="blocks")
    parser.add_argument("--n-head", type=positive_int, default=4, help="heads")
    parser.add_argument("--n-embd", type=positive_int, default=256, help="width")
    parser.add_argument("--block-size", type=positive_int, default=256, help="context, in tokens")
    parser.add_argument("--batch-size", type=positive_int, default=16, help="windows of a context each")
    parser.add_argument("--steps", type=positive_int, default=10000, help="optimizer steps")
    parser.add_argument("--lr", type=positive_float, default=2e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=positive_int, default=200, help="steps until the peak")
    parser.add_argument("--weight-decay", type=float, default=0.1, help="on matrices only")
    parser.add_argument("--clip", type=positive_float, default=1.0, help="longest gradient")
    parser.add_argument("--held-out", type=positive_int, default=12, help="whole texts to hold out")
    parser.add_argument(
        "--evaluate-every", type=positive_int, default=500, help="steps between held-out losses and states"
    )
    parser.add_argument("--evaluate-tokens", type=positive_int, default=100_000, help="held-out tokens read on the way")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the held-out texts and the batches")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 in the matrix products")
    parser.add_argument("--device", default="auto", help="auto (cuda if there, else cpu), cpu, cuda or mps")
    args = parser.parse_args()
    not_settings = ("out", "corpus", "evaluate_every", "evaluate_tokens", "device")
    settings = {name: value for name, value in vars(args).items() if name not in not_settings}
    try:
        device = device_of(args.device)
        if args.n_embd % args.n_head:
            raise ValueError(f"--n-embd {args.n_embd} is not a multiple of --n-head {args.n_head}; change one")
        if args.warmup >= args.steps:
            raise ValueError(f"--warmup {args.warmup} must be below --steps {args.steps}")
        work = args.out / "work"  # tokens and state: needed to go on, not part of the model
        work.mkdir(parents=True, exist_ok=True)
        state_file = work / "state.safetensors"
        if state_file.is_file():
            refuse_changes(state_file, settings, load_state(state_file)[1]["settings"])
        corpus = prepare_corpus(args.corpus, work, args.vocab_size, args.held_out, args.seed)
        for side in ("train", "held_out"):
            if corpus[side]["tokens"] <= args.block_size:
                raise ValueError(
                    f"the {side.replace('_', '-')} texts have {corpus[side]['tokens']} tokens, a window needs "
                    f"{args.block_size + 1}; use more text or a smaller --block-size"
                )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    train_tokens = torch.from_numpy(np.load(work / "train.npy").astype(np.int32))
    held_out = torch.from_numpy(np.load(work / "held_out.npy").astype(np.int32))

    keep_memory()
    torch.manual_seed(args.seed)
    config = GPT2Config(args.vocab_size, args.block_size, args.n_layer, args.n_head, args.n_embd)
    model = GPT2(config).to(device)
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(train_tokens):,} training tokens", flush=True
    )
    tokenizer = load_tokenizer(work)
    on_the_way = held_out[: args.evaluate_tokens]
    words = on_the_way[on_the_way != tokenizer.eot_token]  # `<|endoftext|>` stands for no byte of the text
    record = pretrain(
        model,
        train_tokens,
        on_the_way,
        len(tokenizer.decode_bytes(words.tolist())),
        steps=args.steps,
        batch_size=args.batch_size,
        lr=args.lr,
        warmup=args.warmup,
        weight_decay=args.weight_decay,
        clip=args.clip,
        seed=args.seed,
        bfloat16=not args.float32,
        evaluate_every=args.evaluate_every,
        state_file=state_file,
        settings=settings,
    )
    save_pretrained(model, args.out, tokenizer_folder=work, dtype=torch.float16)
    summary = {
        "settings": settings,
        "corpus": corpus,
        "tokens_seen": args.steps * args.batch_size * args.block_size,
        "machine": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{torch.get_num_threads()} CPU cores with {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
    } | record
    (args.out / "training.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    print(f"the model is in {args.out}")
