"""The cross-entropy of a language model without ever holding all of its logits.

The plain way makes a tensor of B x T x V logits: for GPT-2 124M and a batch of 16 x 256 that is
4,096 x 50,257 numbers, 823 MB in float32, and log-softmax, its gradient and their copies each take
as much again. But a row's loss needs that row's logits only. So the rows go through in chunks: make
the chunk's logits, take the loss, turn the logits into their own gradient in place, multiply that
into the gradients of the hidden states and of the head, and let it go.

The gradient is known in closed form,  d loss / d logits = softmax(logits) - onehot(target),  so both
directions fit in one visit and nothing is computed twice. Peak memory is that of one chunk, 103 MB
at 512 rows, whatever the batch.

Shape legend: N rows (B x T), C width, V vocabulary, R rows of one chunk.
"""

import torch
from torch import Tensor

from model.gpt2 import GPT2
from model.speed.centred import centred_head

CHUNK_ROWS = 512  # N that go through together
# What is made of a product lies in the cache while these are as small as they are:
EXACT_ROWS = 64  # rows of logits that are float32 at a time, 13 MB for GPT-2's vocabulary
WORDS = 2048  # of the vocabulary, whose gradients are made together and added to their sum, 3 MB for a width of 768


def _loss_and_gradient(logits: Tensor, target: Tensor, N: int) -> tuple[Tensor, Tensor]:
    """The sum of the losses of `logits` (R, V), and (R, V) their gradient for a mean over N rows.

    The gradient is made in the logits' own memory.
    """
    own = logits.gather(1, target)  # (R, 1)
    top = logits.amax(-1, keepdim=True)  # (R, 1)
    powers = logits.sub_(top).exp_()  # (R, V), none above 1
    sums = powers.sum(-1, keepdim=True)  # (R, 1)
    loss = (sums.log() + top - own).sum()  # the softmax is powers / sums
    return loss, powers.scatter_add_(1, target, -sums).mul_(1 / (N * sums))


class _HeadCrossEntropy(torch.autograd.Function):
    """mean cross-entropy of softmax(x weight^T) against targets, with its gradient made on the way."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        N = len(x)
        w = centred_head(weight, dtype)  # (V, C)
        x = x.to(dtype)  # (N, C)
        x_grad = torch.empty_like(x)  # (N, C)
        weight_grad = torch.zeros_like(weight)  # (V, C) float32: sums over chunks
        # Sums over the vocabulary and over rows are made in float32 at least: bfloat16 has 8 bits.
        exact = torch.promote_types(dtype, torch.float32)
        total = torch.zeros((), dtype=exact, device=x.device)
        for start in range(0, N, CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            gradient = x[rows] @ w.T  # (R, V), the logits as yet
            for logits, target in zip(gradient.split(EXACT_ROWS), targets[rows, None].split(EXACT_ROWS)):
                loss, logits[:] = _loss_and_gradient(logits.to(exact), target, N)
                total += loss
            torch.mm(gradient, w, out=x_grad[rows])
            for summed, part in zip(weight_grad.split(WORDS), gradient.T.split(WORDS)):  # (words, C) and (words, R)
                summed += part @ x[rows]
            del gradient, logits, part  # before the next chunk, which needs as much
        # Not save_for_backward: autograd would keep a hand on them, and then could not add the embedding's
        # part to the head's gradient in its place, but would make a second one, 154 MB.
        ctx.gradients = x_grad, weight_grad
        return total / N

    @staticmethod
    def backward(ctx, loss_grad: Tensor):
        x_grad, weight_grad = ctx.gradients
        del ctx.gradients
        # In place, as they are used once.
        return x_grad.mul_(loss_grad), weight_grad.mul_(loss_grad), None, None


def head_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Mean next-token loss of hidden states `x` (B, T, C) under the head `weight` (V, C), in nats.

    Args:
        weight: the float32 master; it is rounded to `dtype` here, after its mean has been taken off.
        dtype: of the matrix products.
    """
    with torch.autocast(x.device.type, enabled=False):
        return _HeadCrossEntropy.apply(x.flatten(0, 1), weight, targets.flatten(), dtype)


def chunked_next_token_loss(model: GPT2, inputs: Tensor, targets: Tensor) -> Tensor:
    """The same number as `next_token_loss` and the same gradients; in the precision of autocast, if it is on."""
    x = model.transform(model.embed(inputs))  # (B, T, C)
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    return head_cross_entropy(x, model.wte.weight, targets, dtype)
