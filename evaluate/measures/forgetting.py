"""Did it forget? How far a tuned model has gone from the one it was tuned from, in what it says and in its weights.

Shape legend: S texts, N tokens in each, B texts computed together, T inputs of each, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from model.device import exact_on
from model.gpt2 import GPT2
from model.sampling import evaluating

ROWS = 1024  # positions computed together: their float32 logits are 206 MB for GPT-2, and four such arrays are held
CHUNK = 2**20  # weights that are compared at once


def groups_of(texts: Tensor, model: Callable[[Tensor], Tensor], batch_size: int) -> tuple[Tensor, ...]:
    """`texts` (S, N) in groups of (B, T + 1): B <= `batch_size` and B * T <= ROWS, T <= the model's context.

    Raises:
        ValueError: the texts have no second token.
    """
    if texts.shape[1] < 2:
        raise ValueError("texts of one token leave nothing to predict; use texts of two tokens or more")
    context = getattr(getattr(model, "config", None), "block_size", texts.shape[1])
    texts = texts[:, : context + 1].long()  # the last token is predicted, not read
    return texts.split(max(1, min(batch_size, ROWS // (texts.shape[1] - 1))))


def logits_of(model: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """The float32 logits (B, T, V) of `model`, whatever its dtype is, for `tokens` (B, T)."""
    if not isinstance(model, GPT2):
        return model(tokens).float()
    # The head in float32: GPT-2's logits lie around -30 to -100, where a bfloat16 has steps of 1/8 to 1/2. Two models
    # that differ by less would seem to differ by that rounding.
    x, head = model.transform(model.embed(tokens)), model.wte.weight
    with products_of_bfloat16() if head.dtype == torch.bfloat16 else nullcontext():
        return F.linear(x.float(), head.float())


@contextmanager
def products_of_bfloat16() -> Iterator[None]:
    """Float32 products of numbers that are bfloat16s anyway: inside, a factor is rounded to bfloat16 as it is read, which
    changes none of these, and multiplied as fast; sums and what comes out are float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def divergence_from_base(
    base: Callable[[Tensor], Tensor], tuned: Callable[[Tensor], Tensor], texts: Tensor, batch_size: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """How differently two models go on with the same texts, in nats per token.

    The first is the Kullback-Leibler divergence KL(base || tuned) = sum over w of base(w) log(base(w) / tuned(w)),
    of what the two expect at every place of the text: what it costs on average, beyond its own uncertainty, if the
    tuned model predicts what the base model writes. The second is the loss of the tuned model on the text's own
    tokens less that of the base model. On texts that the base model wrote, freely and with nothing cut off, the
    two have the same mean; on others they differ.

    Args:
        base, tuned: map token ids (B, T) to logits (B, T, V), of any dtype.
        texts: (S, N >= 2) token ids, on the models' device. What is beyond the model's context is not read.
        batch_size: texts computed together, at most; fewer if they are long (see ROWS).

    Returns:
        the means over each text, (S,) float64 each. Never NaN: inf where the tuned model excludes a token that
        the base model does not, or where the logits of one are no numbers.

    Raises:
        ValueError: the texts have no second token.
    """
    divergences, increases, exact = [], [], exact_on(texts.device)
    for group in groups_of(texts, base, batch_size):
        inputs, targets = group[:, :-1], group[:, 1:, None]  # (B, T), (B, T, 1)
        with evaluating(base), evaluating(tuned):
            log_p = logits_of(base, inputs).log_softmax(-1)  # (B, T, V)
            log_q = logits_of(tuned, inputs).log_softmax(-1)  # (B, T, V)
        increase = (log_p.gather(2, targets) - log_q.gather(2, targets))[..., 0]  # (B, T)
        p = log_p.exp()
        # A token that the base model excludes adds nothing: 0 log 0 is 0, but 0 times -inf would be NaN.
        divergence = (log_p - log_q).masked_fill_(p == 0, 0.0).mul_(p).sum(-1)  # (B, T)
        divergences.append(divergence.clamp(min=0).to(exact).double().mean(1))  # below 0 it can be by rounding alone
        increases.append(increase.to(exact).double().mean(1))
    return tuple(
        torch.cat(means).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf).cpu().numpy()
        for means in (divergences, increases)
    )


def weight_change(base: GPT2, tuned: GPT2) -> dict[str, float]:
    """The length of tuned - base as a share of the length of base, for each part of the model.

    The lengths are Frobenius norms: the root of the sum of all squares, of all weights of a part together.

    Returns:
        {"wte": ..., "wpe": ..., "h.0": ..., one for each block, "ln_f": ...}, without unit.
    """
    return {part: relative_change(base.get_submodule(part), tuned.get_submodule(part)) for part in parts_of(base)}


def parts_of(model: GPT2) -> list[str]:
    return ["wte", "wpe", *(f"h.{i}" for i in range(len(model.h))), "ln_f"]


def relative_change(base: nn.Module, tuned: nn.Module) -> float:
    """||tuned - base|| / ||base|| over all parameters of the two modules."""
    change = size = 0.0
    for before, after in zip(base.parameters(), tuned.parameters(), strict=True):
        # In chunks: float64 copies of the whole embedding would be 0.3 GB each.
        for a, b in zip(before.detach().flatten().split(CHUNK), after.detach().flatten().split(CHUNK)):
            a, b = (z.to(exact_on(z.device)).double() for z in (a, b))
            change += (b - a).square().sum()
            size += a.square().sum()
    return (change / size.clamp(min=1e-300)).item() ** 0.5  # of zeros any share is too much, but is a number
