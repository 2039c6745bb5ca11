"""The same work as in theirs.py, done as this project's commands do it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.rows import PARTS, REST  # noqa: E402
from tests.bench.theirs import serve  # noqa: E402


def prepare(task: dict):
    import torch

    from data.settings import Sampling, Training
    from evaluate.ratio import frequent_token_ratio
    from model.device import Machine
    from model.pretrained import load_pretrained
    from model.sampling import cast_copy
    from train.loop import finetune
    from train.speed.adamw import FusedAdamW
    from train.speed.step import fast_gradients, keep_memory

    keep_memory()
    machine = Machine(task["device"], task["dtype"])
    model = load_pretrained(task["model"]).to(machine.device)
    V = model.config.vocab_size

    def write(sequences: int, new_tokens: int) -> None:
        sampler, sampling = cast_copy(model, machine.dtype), Sampling(sequences, new_tokens)
        frequent_token_ratio(sampler, range(100), sampling, vocab_size=V, banned=[V - 1], device=machine.device)

    if task["work"] == "generate":
        return lambda: write(task["sequences"], task["new_tokens"])

    optimizer = FusedAdamW(model.parameters(), lr=1e-4)
    if task["work"] == "adamw":
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        return optimizer.step

    tokens = torch.randint(V, (100 * task["seq_len"],), generator=torch.Generator().manual_seed(0))
    training = Training(samples=1_000_000, batch_size=task["batch_size"], seq_len=task["seq_len"])
    steps = finetune(model, tokens, optimizer, training, fast_gradients(machine.dtype))

    def step() -> None:
        next(steps)

    if task["work"] == "start":
        step()
    if task["work"] == "profile":
        return lambda: {"profile": parts_of(step)}
    if task["work"] == "launches":
        counted = {"a training step": (step, 1), "a token of 10 texts": (lambda: write(10, 100), 100)}
        return lambda: {"launches": {name: launches(*work) for name, work in counted.items()}}
    return step


def parts_of(step) -> dict[str, float]:
    """Seconds of each part of a training step."""
    parts = dict.fromkeys([name for name, _ in PARTS] + [REST], 0.0)
    part_of = {f"aten::{operation}": name for name, operations in PARTS for operation in operations}
    for event in profiled(step, "CPU"):
        parts[part_of.get(event.key, REST)] += event.self_cpu_time_total / 1e6
    return parts


def launches(work, times: int = 1) -> dict[str, float]:
    """How often Python starts something on the GPU (a kernel, or a graph of many), and how many kernels run there.

    Both of one part of `work`, of `times` equal ones.
    """
    counts = {"launches": 0, "kernels": 0}
    for event in profiled(work, "CPU", "CUDA"):
        on_gpu = event.device_type.name == "CUDA"
        if "Launch" in event.key or on_gpu:
            counts["kernels" if on_gpu else "launches"] += event.count * (not event.key.startswith("Mem"))
    return {name: count / times for name, count in counts.items()}


def profiled(work, *activities: str) -> list:
    """The events of one turn of `work`, equal ones together."""
    import torch

    kinds = [torch.profiler.ProfilerActivity.__members__[name] for name in activities]
    with torch.profiler.profile(activities=kinds) as seen:
        work()
        if "CUDA" in activities:
            torch.cuda.synchronize()
    return seen.key_averages()


if __name__ == "__main__":
    serve(prepare)
