"""The fine-tune: one batch, one loss, one step, again and again at a constant learning rate."""

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import get_total_norm

from data.batches import sample_batch
from model.gpt2 import GPT2
from train.adamw import AdamW


def next_token_loss(model: GPT2, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy between the model's prediction and the next token, mean over all B x T, in nats."""
    logits = model(inputs)  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def plain_gradients(model: GPT2, inputs: Tensor, targets: Tensor) -> float:
    """Add d loss / d p to the `.grad` of every parameter p; returns the loss in nats per token."""
    loss = next_token_loss(model, inputs, targets)
    loss.backward()
    return loss.item()


def finetune(
    model: GPT2,
    tokens: Tensor,
    *,
    lr: float,
    samples: int,
    batch_size: int = 16,
    seq_len: int = 256,
    weight_decay: float = 0.01,
    seed: int = 0,
    gradients: Callable[[GPT2, Tensor, Tensor], float] = plain_gradients,
    optimizer: AdamW | None = None,
    after_sample: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train `model` in place on random windows of `tokens` with AdamW at the learning rate `lr`.

    A *sample* is one optimizer step on one batch of `batch_size` windows of `seq_len` tokens.

    Args:
        model: updated in place, on whichever device it is.
        tokens: the book, a row of more than `seq_len` token ids.
        seed: chooses the batches; the same for every learning rate, so that only the rate differs.
        gradients: how a loss and its gradients are computed; speed.py has a faster way to the same numbers.
        optimizer: in place of `AdamW(model.parameters(), lr, weight_decay)`, with a rate and decay of its own.
            Its `steps` say how many samples are done already; the loop goes on with the next.
        after_sample: called as `after_sample(sample, loss)` after each step, for progress and records.

    Returns:
        the training loss of each sample it did, in nats per token, measured before its step. It stops
        early, before the step, where the loss or a gradient is not a finite number.
    """
    # The exercise's library hands the model out in eval mode, that is, without dropout, and the
    # exercise leaves it so. A model that was made with a dropout of its own does use it here.
    model.train()
    device = model.wte.weight.device
    optimizer = optimizer or AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    losses = []
    for sample in range(optimizer.steps, samples):
        inputs, targets = sample_batch(tokens, batch_size, seq_len, seed, sample)  # (B, T) each
        loss = gradients(model, inputs.to(device), targets.to(device))
        length = get_total_norm([p.grad for p in optimizer.parameters if p.grad is not None])
        if not (math.isfinite(loss) and math.isfinite(length)):
            break  # diverged: no step can lead back. A gradient can overflow where the loss does not
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss)
        if after_sample is not None:
            after_sample(sample, loss)
    model.eval()
    return losses
