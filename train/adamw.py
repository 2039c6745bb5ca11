"""AdamW, written out (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2).

For every parameter p with gradient g, at step t = 1, 2, 3, ...

    m = beta1 m + (1 - beta1) g             first moment: where the gradient points, smoothed
    v = beta2 v + (1 - beta2) g^2           second moment: how large it is, smoothed
    m_hat = m / (1 - beta1^t)               both start at zero and are too small at first:
    v_hat = v / (1 - beta2^t)               this undoes it exactly for a constant gradient
    p = p - lr wd p                         decay, decoupled: it never enters m and v
    p = p - lr m_hat / (sqrt(v_hat) + eps)
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class AdamW:
    """Holds the two moments of every parameter; `step` updates all of them in place.

    Args:
        parameters: tensors that get a `.grad`; those whose `.grad` is None are left alone.
        lr: learning rate, a positive number; assign `optimizer.lr` between steps for a schedule.
        betas: how much of the moments is kept each step.
        eps: added to the root, after the bias correction (torch and the paper agree on the place).
        weight_decay: the share of a parameter that a learning rate of 1 would take away in a step.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        self.parameters = list(parameters)
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.steps = 0
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        corrections = [1 - beta**self.steps for beta in self.betas]
        for p, m, v in zip(self.parameters, self.m, self.v, strict=True):
            if p.grad is not None:
                self.update(p, p.grad, m, v, *corrections)

    def update(self, p: Tensor, g: Tensor, m: Tensor, v: Tensor, correction1: float, correction2: float) -> None:
        """The step of one parameter `p` with gradient `g`, in place."""
        beta1, beta2 = self.betas
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        p.mul_(1 - self.lr * self.weight_decay)
        p.addcdiv_(m * (self.lr / correction1), (v / correction2).sqrt_().add_(self.eps), value=-1)

    def zero_grad(self) -> None:
        """Forget the gradients: `backward` adds to what is there."""
        for p in self.parameters:
            p.grad = None
