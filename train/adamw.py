"""AdamW, written out (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2).

For every parameter p with gradient g, at step t = 1, 2, 3, ...

    m = beta1 m + (1 - beta1) g             first moment: the smoothed gradient
    v = beta2 v + (1 - beta2) g^2           second moment: the smoothed square of the gradient
    m_hat = m / (1 - beta1^t)               m and v start at zero and are too small at first;
    v_hat = v / (1 - beta2^t)               this corrects them exactly for a constant gradient
    p = p - lr wd p                         decoupled decay: it does not enter m and v
    p = p - lr m_hat / (sqrt(v_hat) + eps)
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class AdamW:
    """Holds the two moments of every parameter; `step` updates all of them in place.

    Args:
        parameters: tensors that get a `.grad`; those whose `.grad` is None are not changed.
        lr: learning rate, a positive number; assign `optimizer.lr` between steps for a schedule.
        betas: share of each moment that is kept at a step.
        eps: added to the root, after the bias correction (torch and the paper agree on the place).
        weight_decay: share of a parameter that a learning rate of 1 would take away in a step.
        matrices_only: decay only tensors of two dimensions, as pretraining does: decay pulls towards zero, where the
            gain of a norm should not go, and biases are too few to over-fit.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        matrices_only: bool = False,
    ):
        self.parameters = list(parameters)
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.matrices_only = matrices_only
        self.steps = 0
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        for p, m, v in zip(self.parameters, self.m, self.v, strict=True):
            if p.grad is not None:
                self.update(p, p.grad, m, v)

    def update(self, p: Tensor, g: Tensor, m: Tensor, v: Tensor) -> None:
        """The step of `p` with gradient `g`, in place."""
        beta1, beta2 = self.betas
        correction1, correction2 = 1 - beta1**self.steps, 1 - beta2**self.steps
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        p.mul_(1 - self.lr * self.decay(p))
        p.addcdiv_(m * (self.lr / correction1), (v / correction2).sqrt_().add_(self.eps), value=-1)

    def decay(self, p: Tensor) -> float:
        """The weight decay of `p`."""
        return 0.0 if self.matrices_only and p.dim() != 2 else self.weight_decay

    def zero_grad(self) -> None:
        """Drop the gradients: `backward` adds to what is there."""
        for p in self.parameters:
            p.grad = None
