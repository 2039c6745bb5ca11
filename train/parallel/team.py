"""Several processes, started by torchrun: a sweep shares its runs out, one run shares its batches out.

A sweep's workers never talk to each other: the claims on the run folders (claim.py) keep them apart. The
processes of one run are a `Team`: `Several`, or one that is `ALONE`. They hold the same weights, each takes its
part of every batch, and DDP averages their gradients while they are still being made (Li et al. 2020, "PyTorch
Distributed").
"""

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TextIO

import torch
import torch.distributed as dist
import torch.nn as nn
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from data.generators import DROPOUT, generator
from model.gpt2 import GPT2
from train.adamw import AdamW
from train.speed.step import fast_gradients, loss_in

WAIT = timedelta(hours=12)  # for the first process, which measures while the others have nothing to do
POLL = 1.0  # seconds between two looks at what other processes are at
TOLD_EVERY = 30  # looks


def processes() -> tuple[int, int]:
    """(rank, how many): torchrun says so in the environment; (0, 1) without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def own_device(name: str) -> str:
    """The `--device` of this process: `auto` on a machine with several GPUs is the one of its place on it."""
    if name == "auto" and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return name


class Prefixed:
    """A stream that passes whole lines on, each with `prefix`. It is no terminal: bars would overwrite each other."""

    def __init__(self, stream: TextIO, prefix: str):
        self.stream, self.prefix, self.line = stream, prefix, ""

    def write(self, text: str) -> int:
        *lines, self.line = (self.line + text).split("\n")
        for line in lines:
            self.stream.write(f"{self.prefix}{line}".rstrip() + "\n")
        self.stream.flush()
        return len(text)

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


@contextlib.contextmanager
def readable_output(rank: int, size: int) -> Iterator[None]:
    """Several processes in one terminal show lines and no bars; all but the first say who they are."""
    if size == 1:
        yield
        return
    prefix = f"[process {rank}] " if rank else ""
    with (
        contextlib.redirect_stdout(Prefixed(sys.stdout, prefix)),
        contextlib.redirect_stderr(Prefixed(sys.stderr, prefix)),
    ):
        yield


class Loss(nn.Module):
    """The loss as a module around the model: DDP watches the gradients of what its `forward` uses."""

    def __init__(self, model: GPT2, loss_of: Callable[[GPT2, Tensor, Tensor], Tensor]):
        super().__init__()
        self.model, self.loss_of = model, loss_of

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss_of(self.model, inputs, targets)


def part_of(B: int, rank: int, size: int) -> slice:
    """The windows of a batch of `B` that are this process's: none left out, as equal as can be."""
    return slice(rank * B // size, (rank + 1) * B // size)


class Team:
    """The processes of one run: here a team of one, which has nobody to talk to."""

    def leave(self) -> None:
        pass

    def agree(self, number: int) -> int:
        return number

    def share(self, optimizer: AdamW) -> None:
        pass

    def gradients(
        self, model: GPT2, optimizer: AdamW, dtype: torch.dtype, micro_batch: int | None, seed: int
    ) -> Callable[[GPT2, Tensor, Tensor], float]:
        return fast_gradients(dtype, micro_batch)


ALONE = Team()


def wait(look: int, what: str) -> None:
    """Until the next look; at the first and every half minute say what for, if anything. A signal ends it."""
    if what and look % TOLD_EVERY == 0:
        print(f"waiting for {what}", flush=True)
    time.sleep(POLL)


def meeting() -> dist.Store:
    """What all processes of a run have in common, once all are there. Torch would wait too, but deaf to signals."""
    store, rank, size = next(dist.rendezvous("env://", timeout=WAIT))
    store.add("there", 1)
    for look in itertools.count():
        missing = size - store.add("there", 0)
        if not missing:
            return store
        wait(look, f"{missing} of {size} processes" if rank == 0 else "")


class Several(Team):
    """Two processes or more; making it waits until all of them are there."""

    def __init__(self, device: torch.device):
        self.rank, self.size = processes()
        self.device = device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=meeting(), rank=self.rank, world_size=self.size, timeout=WAIT)

    def leave(self) -> None:
        """Say goodbye. A process that ends without it may abort, and torchrun then stops the others."""
        dist.destroy_process_group()
        # DDP keeps the group's threads alive. One of them may still have the last tensor in its hands, and to let
        # go of it needs Python's lock, which it must get before Python shuts down and not while it does.
        time.sleep(1)

    def agree(self, number: int) -> int:
        """The largest of all processes' numbers."""
        largest = torch.tensor(number, device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def share(self, optimizer: AdamW) -> None:
        """Give every process the first one's step and moments; DDP does so with the weights."""
        optimizer.steps = self.agree(optimizer.steps if self.rank == 0 else 0)
        for moment in (*optimizer.m, *optimizer.v):
            dist.broadcast(moment, 0)

    def gradients(
        self, model: GPT2, optimizer: AdamW, dtype: torch.dtype, micro_batch: int | None, seed: int
    ) -> Callable[[GPT2, Tensor, Tensor], float]:
        """A stand-in for `fast_gradients`: every process computes its part of the batch, all get all of the sum.

        DDP takes the mean over the processes. So that it is the mean over the batch, whose parts may differ in
        size, each part's mean loss is weighed with its share of the windows, times the number of processes.
        """
        # Gradients live in the buffers they are sent from: no second copy of them.
        parallel = DistributedDataParallel(Loss(model, loss_in(dtype)), gradient_as_bucket_view=True)

        def gradients(_: GPT2, inputs: Tensor, targets: Tensor) -> float:
            B = len(inputs)
            own = part_of(B, self.rank, self.size)
            inputs, targets = inputs[own], targets[own]
            if model.config.dropout:
                # A function of seed, step and process: other masks for other windows, and nothing to save.
                rng = generator(DROPOUT, seed, optimizer.steps, self.rank)
                torch.manual_seed(int(rng.integers(2**63)))
            total = torch.zeros((), device=inputs.device)
            step = micro_batch or len(inputs)
            for start in range(0, len(inputs), step):
                part = slice(start, start + step)
                last = start + step >= len(inputs)
                with contextlib.nullcontext() if last else parallel.no_sync():
                    loss = parallel(inputs[part], targets[part]) * (len(inputs[part]) / B)
                    (loss * self.size).backward()
                total += loss.detach()
            dist.all_reduce(total)
            return total.item()

        return gradients
