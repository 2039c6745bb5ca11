"""How far have the predictions of a tuned model moved from those of its base model? And did it forget another text?

Shape legend: S texts, N tokens in each, B texts computed together, T inputs of each, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.device import exact_on
from model.gpt2 import GPT2
from model.sampling import evaluating

ROWS = 1024  # positions computed together: their float32 logits are 206 MB for GPT-2, and four such arrays are held


def logits_of(model: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """The float32 logits (B, T, V) of `model`, whatever its dtype is, for `tokens` (B, T)."""
    if not isinstance(model, GPT2):
        return model(tokens).float()
    # The head in float32: GPT-2's logits lie around -30 to -100, where a bfloat16 has steps of 1/8 to 1/2. A smaller
    # difference between two models would be lost in that rounding.
    x, head = model.transform(model.embed(tokens)), model.wte.weight
    with products_of_bfloat16() if head.dtype == torch.bfloat16 else nullcontext():
        return F.linear(x.float(), head.float())


@contextmanager
def products_of_bfloat16() -> Iterator[None]:
    """Multiply float32 numbers as fast as bfloat16: inside, factors are rounded to bfloat16, which changes nothing if
    they came from bfloat16; sums and results are float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def divergence_from_base(
    base: Callable[[Tensor], Tensor], tuned: Callable[[Tensor], Tensor], texts: Tensor, batch_size: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """How differently two models predict the same texts, in nats per token.

    The first is the Kullback-Leibler divergence KL(base || tuned) = sum over w of base(w) log(base(w) / tuned(w)),
    averaged over the places of the text. The second is the loss of the tuned model on the text's own tokens less
    that of the base model. On texts that the base model wrote with nothing cut off, the two have the same mean.

    Args:
        base, tuned: map token ids (B, T) to logits (B, T, V), of any dtype.
        texts: (S, N >= 2) token ids, on the models' device. What is beyond the model's context is not read.
        batch_size: texts computed together, at most; fewer if they are long (see ROWS).

    Returns:
        the means over each text, (S,) float64 each. Never NaN: inf if the tuned model excludes a token that
        the base model does not, or if the logits of one are not numbers.
    """
    context = getattr(getattr(base, "config", None), "block_size", texts.shape[1])
    texts = texts[:, : context + 1].long()  # the last token is predicted, not read
    divergences, increases, exact = [], [], exact_on(texts.device)
    for group in texts.split(max(1, min(batch_size, ROWS // (texts.shape[1] - 1)))):
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
