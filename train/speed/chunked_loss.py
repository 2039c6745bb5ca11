"""The cross-entropy of a language model without a tensor of all logits.

The plain loss makes B x T x V logits: for GPT-2 124M and a batch of 16 x 256 that is 4,096 x 50,257 numbers, 823 MB in
float32, and log-softmax, its gradient and their copies take as much each. But the loss of a row needs only the logits
of that row. So the rows are computed in chunks: make the logits of a chunk, take the loss, replace the logits by their
gradient in place, multiply it into the gradients of the hidden states and of the head, and free it. A GPU has the
memory, and each operation costs it a launch: there all rows are one chunk.

The gradient has a closed form,  d loss / d logits = softmax(logits) - onehot(target),  so forward and backward are
done together and nothing is computed twice. The peak memory is that of one chunk, 103 MB at 512 rows, or of two with a
leash.

Shape legend: N rows (B x T), C width, V vocabulary, R rows of one chunk. W: the vocabulary, padded on a GPU.
"""

import math
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor

from model.gpt2 import GPT2
from model.speed.centred import centred_head

Leash = tuple[Tensor, Tensor, float] | None  # the base model's hidden states (N, C), its head (V, C), and beta

CHUNK_ROWS = 512  # R on a CPU
# Small enough for its cache:
EXACT_ROWS = 64  # rows of logits in float32 at a time, 13 MB for GPT-2's vocabulary
WORDS = 2048  # rows of the head whose gradients are computed and added at a time, 3 MB for a width of 768


def padded_head(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The head `weight` (V, C) as `centred_head` gives it: (W, C). On a GPU W is the next multiple of 64. Rows of
    50,257 logits would begin at odd places, where a product cannot load 16 bytes at once."""
    head = centred_head(weight, dtype)
    return head if head.device.type == "cpu" else F.pad(head, (0, 0, 0, -len(head) % 64))


def _logits(x: Tensor, head: Tensor, V: int) -> Tensor:
    """The logits (R, W) of `x` (R, C). Those of the padding are -inf: probability and gradient are 0."""
    logits = x @ head.T
    logits[:, V:].fill_(-math.inf)
    return logits


def _loss_and_gradient(
    logits: Tensor, target: Tensor, N: int, base_logits: Tensor | None, beta: float
) -> tuple[Tensor, Tensor]:
    """The sum of the losses of `logits` (R, W), and the gradient (R, W) of a mean over N rows, in float32 or more.

    With `base_logits` (R, W), the gradient is that of loss + beta KL (train/levers.py).
    """
    # Sums over the vocabulary need float32 or more: bfloat16 has 8 bits.
    exact = torch.promote_types(logits.dtype, torch.float32)
    logs = logits.log_softmax(-1, dtype=exact)  # (R, W)
    loss = -logs.gather(1, target).sum()
    gradient = logs.exp_().mul_((1 + beta) / N)
    gradient.scatter_add_(1, target, torch.full_like(target, -1 / N, dtype=exact))
    if base_logits is not None:
        gradient.sub_(base_logits.softmax(-1, dtype=exact), alpha=beta / N)
    return loss, gradient


class _HeadCrossEntropy(torch.autograd.Function):
    """The mean cross-entropy of softmax(x weight^T) and the targets; forward computes the gradient too.

    With a leash the gradient is that of  cross-entropy + beta KL  (train/levers.py), the value the cross-entropy alone.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, leash: Leash) -> Tensor:
        N, V = len(x), len(weight)
        on_cpu = x.device.type == "cpu"
        chunk_rows, exact_rows, words = (CHUNK_ROWS, EXACT_ROWS, WORDS) if on_cpu else (N, N, 2 * V)
        w = padded_head(weight, dtype)  # (W, C)
        x = x.to(dtype)  # (N, C)
        x_grad = torch.empty_like(x)  # (N, C)
        # (W, C) float32: sums over chunks. A frozen head needs none.
        weight_grad = torch.zeros_like(w, dtype=weight.dtype) if ctx.needs_input_grad[1] else None
        base_x, base_w, beta = leash or (None, None, 0.0)
        total = 0.0
        for start in range(0, N, chunk_rows):
            rows = slice(start, start + chunk_rows)
            gradient = _logits(x[rows], w, V)  # (R, W), still the logits
            base_logits = _logits(base_x[rows], base_w, V).split(exact_rows) if leash else repeat(None)
            pieces = gradient.split(exact_rows), targets[rows, None].split(exact_rows), base_logits
            for logits, target, base in zip(*pieces):
                loss, logits[:] = _loss_and_gradient(logits, target, N, base, beta)
                total += loss
            torch.mm(gradient, w, out=x_grad[rows])
            if weight_grad is not None:
                for summed, part in zip(weight_grad.split(words), gradient.T.split(words)):  # (words, C), (words, R)
                    summed += part @ x[rows]
            gradient = logits = part = base_logits = base = pieces = None  # before the next chunk allocates as much
        # Not save_for_backward: with a second reference to them autograd could not add the gradient of the embedding
        # to that of the head in place, and would make a copy, 154 MB.
        ctx.gradients = x_grad, None if weight_grad is None else weight_grad[:V]
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
        leash: adds beta KL(base || tuned) to the gradient. Its head is a `padded_head` in `dtype`.
    """
    with torch.autocast(x.device.type, enabled=False):
        return _HeadCrossEntropy.apply(x.flatten(0, 1), weight, targets.flatten(), dtype, leash)


def chunked_next_token_loss(model: GPT2, inputs: Tensor, targets: Tensor, leash: Leash = None) -> Tensor:
    """The loss of `next_token_loss`, with the same gradients; in the precision of autocast, if it is on."""
    x = model.transform(model.embed(inputs))  # (B, T, C)
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    return head_cross_entropy(x, model.wte.weight, targets, dtype, leash)
