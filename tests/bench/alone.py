"""What is measured of ours alone, and of the machine."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from model.device import fastest_dtype


def best_of(turns: int, work, device: str = "cpu") -> float:
    """The least seconds that `work()` takes."""
    seconds = []
    for _ in range(turns):
        if device != "cpu":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def matmul_peak(dtype: torch.dtype, device: str) -> float | None:
    """FLOP a second of a square matrix product, the best of twenty; None where the hardware only imitates `dtype`."""
    if dtype == torch.bfloat16 and fastest_dtype(torch.device(device)) != dtype:
        return None
    size = 2048 if device == "cpu" else 8192  # a GPU has done the smaller one before it can be asked for the next
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / best_of(20, lambda: a @ b, device)


def memory_bandwidth() -> float:
    """Bytes a second from and to memory: of a sum and a copy of 400 MB, the faster."""
    source, target = torch.ones(100_000_000), torch.ones(100_000_000)
    copied = 2 * source.nbytes / best_of(5, lambda: target.copy_(source))
    return max(copied, source.nbytes / best_of(5, source.sum))


def command_seconds(flags: list[str]) -> float:
    """Seconds of `python -m train` with `flags`, the median of five after a first."""
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "train", *flags], capture_output=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def measuring(model: str, text: str, device: str, samples: int) -> dict[str, float]:
    """Seconds that a run measures: before, at its checkpoints, after.

    They do not depend on how large a batch is, nor, from 100 samples on, on how many samples there are: each run has
    as many checkpoints. So it trains by batches of one window.
    """
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--model", model, "--text", text, "--device", device, "--out", folder, "--samples", str(samples))
        subprocess.run([sys.executable, "-m", "train", "--batch-size", "1", "--no-save-model", *flags], check=True)
        result = json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))
    return {name: seconds for name, seconds in result["environment"]["seconds"].items() if name != "training"}
