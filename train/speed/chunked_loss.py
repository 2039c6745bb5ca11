"""The cross-entropy of a language model without a tensor of all logits.

The plain loss makes B x T x V logits: for GPT-2 124M and a batch of 16 x 256 that is 4,096 x 50,257 numbers, 823 MB in
float32, and log-softmax, its gradient and their copies take as much each. But the loss of a row needs only the logits
of that row. So the rows are computed in chunks: make the logits of a chunk, take the loss, replace the logits by their
gradient in place, multiply it into the gradients of the hidden states and of the head, and free it.

The gradient has a closed form,  d loss / d logits = softmax(logits) - onehot(target),  so forward and backward are
done together and nothing is computed twice. The peak memory is that of one chunk, 103 MB at 512 rows, or of two with a
leash.

Shape legend: N rows (B x T), C width, V vocabulary, R rows of one chunk.
"""

from itertools import repeat

import torch
from torch import Tensor

from model.gpt2 import GPT2
from model.speed.centred import centred_head

Leash = tuple[Tensor, Tensor, float] | None  # the base model's hidden states (N, C), its head (V, C), and beta

CHUNK_ROWS = 512  # R
# Small enough for the cache:
EXACT_ROWS = 64  # rows of logits in float32 at a time, 13 MB for GPT-2's vocabulary
WORDS = 2048  # rows of the head whose gradients are computed and added at a time, 3 MB for a width of 768


def _loss_and_gradient(
    logits: Tensor, target: Tensor, N: int, base_logits: Tensor | None, beta: float
) -> tuple[Tensor, Tensor]:
    """The sum of the losses of `logits` (R, V), and the gradient (R, V) of a mean over N rows, in the same memory.

    With `base_logits` (R, V), the gradient is that of loss + beta KL (train/levers.py).
    """
    own = logits.gather(1, target)  # (R, 1)
    top = logits.amax(-1, keepdim=True)  # (R, 1)
    powers = logits.sub_(top).exp_()  # (R, V), none above 1
    sums = powers.sum(-1, keepdim=True)  # (R, 1)
    loss = (sums.log() + top - own).sum()  # the softmax is powers / sums
    gradient = powers.scatter_add_(1, target, -sums / (1 + beta)).mul_((1 + beta) / (N * sums))
    if base_logits is not None:
        gradient.sub_(base_logits.softmax(-1, dtype=gradient.dtype), alpha=beta / N)
    return loss, gradient


class _HeadCrossEntropy(torch.autograd.Function):
    """The mean cross-entropy of softmax(x weight^T) and the targets; forward computes the gradient too.

    With a leash the gradient is that of  cross-entropy + beta KL  (train/levers.py), the value the cross-entropy alone.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, leash: Leash) -> Tensor:
        N = len(x)
        w = centred_head(weight, dtype)  # (V, C)
        x = x.to(dtype)  # (N, C)
        x_grad = torch.empty_like(x)  # (N, C)
        # (V, C) float32: sums over chunks. A frozen head needs none.
        weight_grad = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        base_x, base_w, beta = leash or (None, None, 0.0)
        # Sums over the vocabulary and over rows need float32 or more: bfloat16 has 8 bits.
        exact = torch.promote_types(dtype, torch.float32)
        total = torch.zeros((), dtype=exact, device=x.device)
        for start in range(0, N, CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            gradient = x[rows] @ w.T  # (R, V), still the logits
            base_logits = (base_x[rows] @ base_w.T).split(EXACT_ROWS) if leash else repeat(None)
            pieces = gradient.split(EXACT_ROWS), targets[rows, None].split(EXACT_ROWS), base_logits
            for logits, target, base in zip(*pieces):
                loss, logits[:] = _loss_and_gradient(logits.to(exact), target, N, base, beta)
                total += loss
            torch.mm(gradient, w, out=x_grad[rows])
            if weight_grad is not None:
                for summed, part in zip(weight_grad.split(WORDS), gradient.T.split(WORDS)):  # (words, C), (words, R)
                    summed += part @ x[rows]
            gradient = logits = part = base_logits = base = pieces = None  # before the next chunk allocates as much
        # Not save_for_backward: with a second reference to them autograd could not add the gradient of the embedding
        # to that of the head in place, and would make a copy, 154 MB.
        ctx.gradients = x_grad, weight_grad
        return total / N

    @staticmethod
    def backward(ctx, loss_grad: Tensor):
        x_grad, weight_grad = ctx.gradients
        del ctx.gradients
        # In place: they are used once.
        return x_grad.mul_(loss_grad), None if weight_grad is None else weight_grad.mul_(loss_grad), None, None, None


def head_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, leash: Leash = None) -> Tensor:
    """Mean next-token loss of hidden states `x` (B, T, C) under the head `weight` (V, C), in nats.

    Args:
        weight: float32; its mean is subtracted before it is rounded to `dtype`.
        dtype: of the matrix products.
        leash: adds beta KL(base || tuned) to the gradient. Its head is centred, in `dtype`.
    """
    with torch.autocast(x.device.type, enabled=False):
        return _HeadCrossEntropy.apply(x.flatten(0, 1), weight, targets.flatten(), dtype, leash)


def chunked_next_token_loss(model: GPT2, inputs: Tensor, targets: Tensor, leash: Leash = None) -> Tensor:
    """The loss of `next_token_loss`, with the same gradients; in the precision of autocast, if it is on."""
    x = model.transform(model.embed(inputs))  # (B, T, C)
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    return head_cross_entropy(x, model.wte.weight, targets, dtype, leash)
