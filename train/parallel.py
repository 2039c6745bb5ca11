"""Several processes, started by torchrun: they share out the runs of a sweep, or the batches of one run.

The processes of a sweep do not communicate: the locks on the run folders keep them apart. The processes of one run
hold the same weights. Each computes the gradients of its part of every batch, `all_reduce` adds them up, and all
processes take the same step (data parallelism: Li et al. 2020, "PyTorch Distributed").
"""

import os
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from data.generators import DROPOUT, generator
from model.gpt2 import GPT2
from train.adamw import AdamW
from train.loop import Gradients

TIMEOUT = timedelta(hours=12)  # the other processes wait while the first one measures the base model
POLL = 1.0  # seconds
POLLS_PER_MESSAGE = 30


def processes() -> tuple[int, int]:
    """(rank, number of processes), which torchrun puts into the environment; (0, 1) without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def own_device(name: str) -> str:
    """The `--device` of this process: with `auto` or `cuda` on a machine with GPUs each process gets its own."""
    if name in ("auto", "cuda") and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return name


def wait(poll: int, what: str) -> None:
    """Sleep until the next poll; print what is waited for at the first and then every half minute."""
    if poll % POLLS_PER_MESSAGE == 0:
        print(f"waiting for {what}", flush=True)
    time.sleep(POLL)


def join(device: torch.device) -> None:
    """Connect the processes of one run."""
    if device.type == "cuda":
        here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
        if here > gpus:
            raise ValueError(
                f"{here} processes of one run need {here} GPUs, and there are {gpus}; start at most {gpus}"
            )
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)


def leave() -> None:
    """Disconnect, if connected. A process that ends without it may abort, and torchrun then stops the others."""
    if dist.is_initialized():
        dist.destroy_process_group()


def agree(number: int) -> int:
    """The largest number of all connected processes. It waits for all of them, so it is a barrier too."""
    largest = torch.tensor(int(number))  # of one type in every process, True too
    if dist.is_initialized():
        dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def part_of(B: int, rank: int, size: int) -> slice:
    """The windows that process `rank` of `size` takes of a batch of `B`: each goes to one process, in equal shares."""
    return slice(rank * B // size, (rank + 1) * B // size)


def share_batches(gradients: Gradients, model: GPT2, optimizer: AdamW, seed: int) -> Gradients:
    """Give all connected processes the first one's weights, moments and step; return `gradients` of shared batches.

    The mean over a batch is the sum of the means over its parts, each weighted with its share of the windows.
    A process that is not connected to others gets `gradients` back.
    """
    if not dist.is_initialized():
        return gradients
    rank, size = processes()
    optimizer.steps = agree(optimizer.steps if rank == 0 else 0)
    for tensor in (*(p.detach() for p in model.parameters()), *optimizer.m, *optimizer.v):
        dist.broadcast(tensor, 0)

    def shared(model: GPT2, inputs: Tensor, targets: Tensor) -> float:
        own = part_of(len(inputs), rank, size)
        weight = (own.stop - own.start) / len(inputs)
        if model.config.dropout:  # other masks for other windows: a function of seed, step and process
            torch.manual_seed(int(generator(DROPOUT, seed, optimizer.steps, rank).integers(2**63)))
        loss = torch.tensor(weight * gradients(model, inputs[own], targets[own]), dtype=torch.float64)
        dist.all_reduce(loss)
        for p in optimizer.parameters:
            dist.all_reduce(p.grad.mul_(weight))
        return loss.item()

    return shared
