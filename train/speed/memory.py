"""Memory: what a batch takes at the least, and how it is kept from one step to the next."""

import ctypes
import platform

from model.gpt2 import GPT2Config
from train.settings import Training


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
        mallopt(option, value) for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 1 << 26))
    )


def least_bytes(training: Training, config: GPT2Config, processes: int = 1) -> int:
    """What a step takes at the very least, in bytes: the batch's token ids, and what autograd keeps of its windows.

    Of every token under way each block keeps 14 C numbers of two bytes or more: what its two norms (2 C), its
    queries, keys and values (3 C), its attention (C) and its MLP (4 C before the GELU, 4 C after) have made.
    """
    B, T = training.batch_size, training.seq_len
    under_way = min(training.micro_batch or B, -(-B // processes))
    return 8 * B * (T + 1) + under_way * T * config.n_layer * 14 * config.n_embd * 2


def memory_bytes() -> int | None:
    """Of this machine, in bytes, the swap space included; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            kilobytes = {name: int(words.split()[0]) for name, words in (line.split(":") for line in lines)}
        return 1024 * (kilobytes["MemTotal"] + kilobytes["SwapTotal"])
    except (OSError, KeyError):
        return None
