"""The fine-tune: one batch, one loss, one step, again and again at a constant learning rate."""

import math
from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import get_total_norm
from tqdm import tqdm

from data.batches import sample_batch
from data.settings import Training
from model.gpt2 import GPT2
from train.adamw import AdamW


class Diverged(ArithmeticError):
    """The loss or a gradient is no finite number any more; `what` says which of the two."""

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


def steps(
    model: GPT2,
    tokens: Tensor,
    optimizer: AdamW,
    settings: Training,
    gradients: Callable[[GPT2, Tensor, Tensor], float] = plain_gradients,
) -> Iterator[float]:
    """Train `model` in place on random windows of `tokens`; yields the loss of each sample when its step is done.

    Args:
        model: on whichever device it is.
        tokens: the book, a row of more than `seq_len` token ids.
        optimizer: of the model's parameters. Its `steps` say how many samples are done already; the loop goes on
            with the next.
        gradients: how a loss and its gradients are computed; train/speed has a faster way to the same numbers.

    Yields:
        training losses in nats per token, each measured before its step.

    Raises:
        Diverged: before the step, where the loss or a gradient is not a finite number.
    """
    # The exercise's library hands the model out in eval mode, that is, without dropout, and the
    # exercise leaves it so. A model that was made with a dropout of its own does use it here.
    model.train()
    device = model.wte.weight.device
    try:
        for sample in range(optimizer.steps, settings.samples):
            batch = sample_batch(tokens, settings.batch_size, settings.seq_len, settings.seed, sample)
            inputs, targets = (part.to(device) for part in batch)  # (B, T) each
            loss = gradients(model, inputs, targets)
            length = get_total_norm([p.grad for p in optimizer.parameters if p.grad is not None])
            if not (math.isfinite(loss) and math.isfinite(length)):
                # No step can lead back. A gradient can overflow where the loss does not.
                raise Diverged("gradient" if math.isfinite(loss) else "loss")
            optimizer.step()
            optimizer.zero_grad()
            yield loss
    finally:
        model.eval()


def finetune(
    model: GPT2,
    tokens: Tensor,
    lr: float,
    settings: Training = Training(),
    gradients: Callable[[GPT2, Tensor, Tensor], float] = plain_gradients,
) -> list[float]:
    """All of `steps` with a fresh AdamW at the learning rate `lr`: the losses, in nats per token.

    Where training diverges it stops, and the list is shorter than `settings.samples`.
    """
    optimizer, losses = AdamW(model.parameters(), lr, weight_decay=settings.weight_decay), []
    try:
        training = steps(model, tokens, optimizer, settings, gradients)
        for loss in tqdm(training, "training", total=settings.samples, unit="sample", disable=None):
            losses.append(loss)
    except Diverged:
        pass
    return losses
