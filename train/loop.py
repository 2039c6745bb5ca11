"""The fine-tune: one batch, one loss, one step, repeated at a constant learning rate."""

import math
from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import get_total_norm

from data.batches import sample_batch
from data.settings import Training
from model.gpt2 import GPT2
from train.adamw import AdamW

Gradients = Callable[[GPT2, Tensor, Tensor], float]  # a way to compute a loss and add its gradients to every `.grad`


class Diverged(ArithmeticError):
    """The loss or a gradient is no longer a finite number; `what` says which of the two."""

    def __init__(self, what: str):
        super().__init__(f"the {what} is not a finite number")
        self.what = what


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
    model: GPT2, tokens: Tensor, optimizer: AdamW, settings: Training, gradients: Gradients = plain_gradients
) -> Iterator[float]:
    """Train `model` in place on random windows of `tokens`; yields the loss of each step when it is done.

    Args:
        tokens: the book, a row of more than `seq_len` token ids.
        optimizer: of the model's parameters. Its `steps` are done already; the loop continues with the next.
        gradients: computes a loss and its gradients; train/speed has a faster way to the same numbers.

    Yields:
        training losses in nats per token, each measured before its update.

    Raises:
        Diverged: before the update, if the loss or a gradient is not a finite number.
    """
    # Dropout is 0 by default, as in the exercise; a model that was made with more uses it only in training mode.
    model.train()
    tokens = tokens.to(model.wte.weight.device)  # once: a copy waits for the GPU
    try:
        for step in range(optimizer.steps, settings.samples):
            inputs, targets = sample_batch(tokens, settings.batch_size, settings.seq_len, settings.seed, step)
            loss = gradients(model, inputs, targets)  # of (B, T) each
            length = get_total_norm([p.grad for p in optimizer.parameters if p.grad is not None])
            if not (math.isfinite(loss) and math.isfinite(length)):
                # No step can lead back. A gradient can overflow even if the loss does not.
                raise Diverged("gradient" if math.isfinite(loss) else "loss")
            optimizer.step()
            optimizer.zero_grad()
            yield loss
    finally:
        model.eval()
