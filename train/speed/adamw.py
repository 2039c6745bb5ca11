"""AdamW in less time: the same arithmetic with fewer trips to memory."""

import torch
from torch import Tensor

from train.adamw import AdamW


class FastAdamW(AdamW):
    """`AdamW` piece by piece.

    On the CPU the step is bound by memory: seven numbers of 4 bytes must be moved for each parameter
    (p, g, m, v read; p, m, v written), 3.5 GB for GPT-2 124M. Operations over whole tensors move them two
    or three times over. Cut into pieces that fit in the cache, each number comes from memory once. It is
    moved between cache and core for every operation all the same, where a kernel that does everything in one
    visit, as torch's fused one, needs 0.4 of the time: separate operations cannot reach it. In a step of 3.7 s
    it is 0.19 s against 0.07 (`tests/bench/amx.json`); `CompiledAdamW` is the way there. A GPU, where launches
    count, takes every tensor whole.
    """

    PIECE = 1 << 18  # numbers: 6 tensors of 1 MB; smaller ones cost more in calls than they save

    def update(self, p: Tensor, g: Tensor, m: Tensor, v: Tensor, *corrections: float) -> None:
        piece = self.PIECE if p.device.type == "cpu" else p.numel()
        for tensors in zip(*(tensor.view(-1).split(piece) for tensor in (p, g, m, v))):
            super().update(*tensors, *corrections)


class CompiledAdamW(AdamW):
    """`AdamW` with its operations made into one kernel by torch's compiler: every number is visited once.

    All but the first operation on a number then find it in the core's registers, and what is left is the
    28 bytes of each parameter from and to memory: 1.25 of the time of torch's own fused kernel or less, where
    `FastAdamW` takes 2.4 to 2.9 times as long (`tests/bench/amx.json`). In a step of 3.7 s that is 2.5 %, and the
    kernels, one for matrices and one for vectors, take 3 s to make in every process, 20 s for the first time
    on a machine: it pays after 30 to 200 samples. It needs a C++ compiler, see `check_compiler`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.compiled_update = torch.compile(super().update, dynamic=True, fullgraph=True)

    def update(self, p: Tensor, *others: Tensor | float) -> None:
        # Detached: the compiler takes the shape of a parameter as fixed and would make a kernel for each.
        self.compiled_update(p.detach(), *others)


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
