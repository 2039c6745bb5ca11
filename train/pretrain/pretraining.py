"""Pretraining: train a GPT-2 with random weights on a corpus.

    python -m train.pretrain --corpus books.jsonl.xz --out model/lilliput

Fine-tuning (loop.py) starts where this ends. Random weights need more than the fine-tune: a learning rate that warms
up and then falls, clipped gradients, and a weight decay of matrices only.
"""

import dataclasses
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from data.batches import sample_batch
from data.settings import Recipe
from data.tokenizer import copy_tokenizer, load_tokenizer
from evaluate.loss import text_loss
from evaluate.results import write_json
from model.gpt2 import GPT2, GPT2Config
from model.pretrained import save_pretrained
from model.speed.attention import fused_attention
from train.pretrain.corpus import ADVICE
from train.run.checkpoint import CHECKPOINT_FILE, Checkpointer, load_checkpoint
from train.run.folder import refuse_changes
from train.speed.adamw import FusedAdamW
from train.speed.chunked_loss import chunked_next_token_loss
from train.speed.step import keep_memory

COOLDOWN = 0.44  # of the steps, at the end


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """Rises linearly from peak / warmup to `peak`, stays there, and falls to 0 in the last 44 % of `steps`.

    The warm-up is for the second moments, which are poor estimates at first (Goyal et al. 2017 for the idea). A
    constant rate that falls as 1 - sqrt(share of the fall done) is as good as a cosine, and a longer training begins
    like a shorter one (Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations").
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    start = max(warmup, round((1 - COOLDOWN) * steps))
    return peak * (1 - math.sqrt(max(0, step - start) / (steps - start)))


def check_state(work: Path, recipe: Recipe) -> None:
    """Raise a ValueError if the state in `work` is damaged or of another recipe."""
    file = work / CHECKPOINT_FILE
    if file.is_file():
        refuse_changes(file, dataclasses.asdict(recipe), load_checkpoint(file)[1].get("identity", {}), ADVICE)


def check_corpus(corpus: dict, recipe: Recipe) -> None:
    """Raise a ValueError if the training or the held-out texts are shorter than a window."""
    for side in ("train", "held_out"):
        if corpus[side]["tokens"] <= recipe.block_size:
            raise ValueError(
                f"the {side.replace('_', '-')} texts have {corpus[side]['tokens']} tokens, a window needs "
                f"{recipe.block_size + 1}; use more text or a smaller --block-size"
            )


def make_model(
    out: Path, work: Path, corpus: dict, recipe: Recipe, device: torch.device, evaluate_every: int, evaluate_tokens: int
) -> None:
    """Train a new model on the tokens in `work`, or continue from the state there; write model and history to `out`.

    Args:
        work: the folder that `prepare_corpus` has filled.
        corpus: the summary that `prepare_corpus` returned.
        evaluate_every: steps between two held-out losses, and between two saved states.
        evaluate_tokens: number of held-out tokens that are measured.
    """
    tokens = torch.from_numpy(np.load(work / "train.npy").astype(np.int32))
    held_out = torch.from_numpy(np.load(work / "held_out.npy").astype(np.int32))[:evaluate_tokens]
    keep_memory()
    torch.manual_seed(recipe.seed)
    config = GPT2Config(recipe.vocab_size, recipe.block_size, recipe.n_layer, recipe.n_head, recipe.n_embd)
    model = GPT2(config, fused_attention).to(device)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokens):,} training tokens", flush=True)
    tokenizer = load_tokenizer(work)
    words = held_out[held_out != tokenizer.eot_token]  # `<|endoftext|>` is no part of a text
    held_out_bytes = len(tokenizer.decode_bytes(words.tolist()))
    optimizer = FusedAdamW(
        model.parameters(), recipe.lr, betas=(0.9, 0.95), weight_decay=recipe.weight_decay, matrices_only=True
    )
    checkpointer = Checkpointer(work / CHECKPOINT_FILE, model, optimizer, dataclasses.asdict(recipe))
    history = pretrain(tokens, held_out, held_out_bytes, recipe, checkpointer, evaluate_every)
    copy_tokenizer(work, out)
    save_pretrained(model, out, end_of_text=tokenizer.eot_token, dtype=torch.float16)
    cpu = f"{torch.get_num_threads()} CPU cores with {torch.backends.cpu.get_cpu_capability()}"
    summary = {
        "settings": dataclasses.asdict(recipe),
        "corpus": corpus,
        "tokens_seen": recipe.steps * recipe.batch_size * recipe.block_size,
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "torch": torch.__version__,
    } | history
    write_json(out / "training.json", summary)
    print(f"the model is in {out}")


def pretrain(
    tokens: Tensor,
    held_out: Tensor,
    held_out_bytes: int,
    recipe: Recipe,
    checkpointer: Checkpointer,
    evaluate_every: int,
) -> dict:
    """Train the checkpointer's model in place, from its saved state if there is one.

    Args:
        tokens, held_out: (N,) token ids each.
        held_out_bytes: length of the text that `held_out` encodes.

    Returns:
        the history: `train_loss` (nats per token, mean since the last entry), `held_out_loss` (nats per token) and
        `held_out_bits_per_byte`, each a list of [step, value]; and `seconds` of training.
    """
    model, optimizer = checkpointer.model, checkpointer.optimizer
    history = checkpointer.restore()
    if history is None:
        history = {"train_loss": [], "held_out_loss": [], "held_out_bits_per_byte": [], "seconds": 0.0}
    else:
        print(f"continuing from step {optimizer.steps} in {checkpointer.file}", flush=True)
    began = time.monotonic() - history["seconds"]
    losses, first = [], optimizer.steps
    steps = range(first, recipe.steps)
    progress = tqdm(steps, "pretraining", recipe.steps, unit="step", initial=first, mininterval=2, disable=None)
    for step in progress:
        optimizer.lr = learning_rate(step, recipe.steps, recipe.warmup, recipe.lr)
        losses.append(training_step(model, optimizer, tokens, recipe, step))
        done = step + 1
        if done % evaluate_every == 0 or done == recipe.steps:
            with training_precision(model, recipe):
                held_out_loss = text_loss(model, held_out.to(model.wte.weight.device), recipe.block_size)
            bits_per_byte = held_out_loss * (len(held_out) - 1) / math.log(2) / held_out_bytes
            training_loss, losses = sum(losses) / len(losses), []
            history["train_loss"].append([done, training_loss])
            history["held_out_loss"].append([done, held_out_loss])
            history["held_out_bits_per_byte"].append([done, bits_per_byte])
            history["seconds"] = time.monotonic() - began
            checkpointer.save(history)
            progress.write(
                f"step {done}: training loss {training_loss:.4f} nats, "
                f"held-out {held_out_loss:.4f} nats per token, {bits_per_byte:.4f} bits per byte",
                file=sys.stderr,
            )
    return history


def training_step(model: GPT2, optimizer: FusedAdamW, tokens: Tensor, recipe: Recipe, step: int) -> float:
    """Train on one batch; returns its loss before the step, in nats per token."""
    device = model.wte.weight.device
    inputs, targets = sample_batch(tokens, recipe.batch_size, recipe.block_size, recipe.seed, step)  # (B, T) each
    with training_precision(model, recipe):
        loss = chunked_next_token_loss(model, inputs.to(device), targets.to(device))
    loss.backward()
    # If the norm of all gradients together is over the limit, one factor scales them down, so that one bad batch cannot
    # move the weights far (Pascanu et al. 2013).
    length = clip_grad_norm_(model.parameters(), recipe.clip)
    if not (loss.isfinite() and length.isfinite()):
        raise ValueError(
            f"the {'gradient' if loss.isfinite() else 'loss'} in step {step + 1} is not finite: diverged; no model is "
            "written; use a smaller --lr, and another --out"
        )
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def training_precision(model: GPT2, recipe: Recipe) -> torch.autocast:
    """A context in which matrix products are in bfloat16, unless the recipe says float32."""
    return torch.autocast(model.wte.weight.device.type, torch.bfloat16, enabled=not recipe.float32)
