"""Where the time of a training step goes, and how to get it back without changing the experiment.

The plain step of `loop.py` on two CPU cores spends half its time outside the matrix products. Each
trick below has a place of its own; together they replace `plain_gradients` and `AdamW` in the loop
and give the same numbers up to rounding. Weights, moments and updates stay in float32 throughout.
"""

import ctypes
import platform
from collections.abc import Callable

import torch
import torch.nn as nn
from torch import Tensor
from torch.func import functional_call

from model.gpt2 import GPT2
from train.adamw import AdamW
from train.chunked_loss import chunked_next_token_loss, head_cross_entropy


class _Transform(nn.Module):
    """The model between embedding and head as a module, so that it can be called with other weights than its own."""

    def __init__(self, model: GPT2):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.transform(x)


def bfloat16_loss(model: GPT2, inputs: Tensor, targets: Tensor) -> Tensor:
    """The loss with weights and activations rounded to bfloat16, five times as fast to multiply as float32.

    A cast that autograd knows leads from each float32 weight to its bfloat16 copy, made once here and
    used by both directions; the gradients come back through it in float32. The embeddings are no
    products: the rows looked up are rounded, and the head makes its own copy. (Autocast keeps float32
    between the products and casts forth and back around each.) A bfloat16 has the range of a float32
    and 8 significant bits, a step of 1/256: enough for a product among thousands that are summed in
    float32, far too little for the weights themselves, where a step of 1e-6 would vanish.
    """
    weights = {
        f"model.{name}": p.to(torch.bfloat16)
        for name, p in model.named_parameters()
        if name not in ("wte.weight", "wpe.weight")  # looked up in float32: a few rows to round, not a table
    }
    x = model.embed(inputs).to(torch.bfloat16)  # (B, T, C)
    x = functional_call(_Transform(model), weights, (x,))  # (B, T, C)
    return head_cross_entropy(x, model.wte.weight, targets, torch.bfloat16)


def loss_in(dtype: torch.dtype) -> Callable[[GPT2, Tensor, Tensor], Tensor]:
    """The next-token loss with its matrix products in `dtype`; never all logits at once."""
    return bfloat16_loss if dtype == torch.bfloat16 else chunked_next_token_loss


def fast_gradients(dtype: torch.dtype, micro_batch: int | None = None) -> Callable[[GPT2, Tensor, Tensor], float]:
    """A stand-in for `plain_gradients`: the same gradients, made in `dtype`, `micro_batch` windows at a time.

    Activations take memory for every window that is under way. The mean over a batch is the weighted
    sum of the means over its parts, and so are its gradients: parts one after another need the memory
    of one part.
    """
    loss_of = loss_in(dtype)

    def gradients(model: GPT2, inputs: Tensor, targets: Tensor) -> float:
        B = len(inputs)
        total = 0.0
        if micro_batch is not None:
            # The sums are there before the first part's activations: made between them, they would lie
            # scattered, and the memory freed around them would not fit the next part.
            for p in model.parameters():
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        for start in range(0, B, micro_batch or B):
            part = slice(start, start + (micro_batch or B))
            loss = loss_of(model, inputs[part], targets[part]) * (len(inputs[part]) / B)
            loss.backward()
            total += loss.item()
        return total

    return gradients


class FastAdamW(AdamW):
    """`AdamW` with the same arithmetic in another order of visits.

    On the CPU the step is bound by memory: seven numbers of 4 bytes must be moved for each parameter
    (p, g, m, v read; p, m, v written), 3.5 GB for GPT-2 124M. Seven operations over whole tensors move
    them two or three times over. Cut into pieces that fit in the cache, each number comes from memory
    once. It is moved between cache and core seven times all the same, where a kernel that does everything
    in one visit, as torch's fused one, needs 0.4 of the time: separate operations cannot reach it. In a
    step of 3.7 s it is 0.19 s against 0.07 (`tests/bench.json`); `CompiledAdamW` is the way there. On a GPU
    the launches count: the `_foreach_` operations take all tensors in one.
    """

    PIECE = 1 << 18  # numbers: 5 tensors of 1 MB; smaller ones cost more in calls than they save

    @torch.no_grad()
    def step(self) -> None:
        used = [
            (p, p.grad, m, v) for p, m, v in zip(self.parameters, self.m, self.v, strict=True) if p.grad is not None
        ]
        self.steps += 1
        if not used:
            return
        if used[0][0].device.type != "cpu":
            self.update(*map(list, zip(*used)))
            return
        for tensors in used:
            for pieces in zip(*(t.view(-1).split(self.PIECE) for t in tensors)):
                self.update(*([piece] for piece in pieces))

    def update(self, p: list[Tensor], g: list[Tensor], m: list[Tensor], v: list[Tensor]) -> None:
        beta1, beta2 = self.betas
        # m_hat / (sqrt(v_hat) + eps) with both corrections taken out of it:  m / (sqrt(v) + eps r) * r / (1 - beta1^t)
        r = (1 - beta2**self.steps) ** 0.5
        torch._foreach_lerp_(m, g, 1 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, g, g, 1 - beta2)
        root = torch._foreach_sqrt(v)
        torch._foreach_add_(root, self.eps * r)
        torch._foreach_mul_(p, 1 - self.lr * self.weight_decay)
        torch._foreach_addcdiv_(p, m, root, -self.lr * r / (1 - beta1**self.steps))


class CompiledAdamW(AdamW):
    """`AdamW` with its operations made into one kernel by torch's compiler: every number is visited once.

    Of the seven operations on a number six then find it in the core's registers, and what is left is the
    28 bytes of each parameter from and to memory: 1.25 of the time of torch's own fused kernel or less, where
    `FastAdamW` takes 2.4 to 2.9 times as long (`tests/bench.json`). In a step of 3.7 s that is 2.5 %, and the
    kernels, one for matrices and one for vectors, take 3 s to make in every process, 20 s for the first time
    on a machine: it pays after 30 to 200 samples. It needs a C++ compiler, see `check_compiler`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.kernel = torch.compile(adamw_update, dynamic=True, fullgraph=True)

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        beta1, beta2 = self.betas
        r = (1 - beta2**self.steps) ** 0.5
        keep, rate = 1 - self.lr * self.weight_decay, self.lr * r / (1 - beta1**self.steps)
        for p, m, v in zip(self.parameters, self.m, self.v, strict=True):
            if p.grad is not None:
                # Detached: the compiler takes the shape of a parameter as fixed and would make a kernel for each.
                self.kernel(p.detach(), p.grad, m, v, keep, rate, self.eps * r, beta1, beta2)


def adamw_update(
    p: Tensor, g: Tensor, m: Tensor, v: Tensor, keep: float, rate: float, eps: float, beta1: float, beta2: float
) -> None:
    """What `FastAdamW.update` does, for one parameter: `keep` is 1 - lr wd, `rate` lr r / (1 - beta1^t), `eps` eps r."""
    m.lerp_(g, 1 - beta1)
    v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    p.mul_(keep).sub_(rate * m / (v.sqrt() + eps))


def check_compiler() -> None:
    """Let torch's compiler make the smallest of kernels, 2 to 15 s.

    Raises:
        ValueError: it cannot, mostly for want of a C++ compiler.
    """
    try:
        torch.compile(torch.neg)(torch.zeros(1))
    except RuntimeError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"torch's compiler does not work here ({reason}); install a C++ compiler such as g++, or leave --compile out"
        ) from None


def keep_memory() -> bool:
    """Ask the C library to keep freed memory for the next step; returns whether it was asked.

    Buffers of hundreds of MB are otherwise handed back to the kernel and taken again every step, and
    every page of theirs costs a fault and is cleared anew: 4 GB a step are a million faults. A step of
    GPT-2 124M in bfloat16 took 3.4 s with it and 4.8 s without.
    """
    if platform.system() != "Linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl does not
    if mallopt is None:
        return False
    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
    # No block gets a mapping of its own, and the heap is never trimmed.
    return all(
        mallopt(option, value)
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 1 << 26))
    )
