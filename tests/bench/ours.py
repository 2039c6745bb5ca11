"""The same work as in theirs.py, done as this project's commands do it."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.rows import OPTIMIZER, PARTS, REST  # noqa: E402
from tests.bench.theirs import batch_of, serve  # noqa: E402


def prepare(task: dict):
    import torch

    from data.settings import Sampling
    from evaluate.ratio import frequent_token_ratio
    from model.device import Machine
    from model.pretrained import load_pretrained
    from model.sampling import cast_copy
    from train.speed.adamw import FusedAdamW
    from train.speed.step import fast_gradients, keep_memory

    device = torch.device(task["device"])
    keep_memory()
    torch.backends.cuda.matmul.allow_tf32 = True  # as open_plan in train/run/run.py does
    dtype = Machine(device, task["dtype"]).dtype
    model = load_pretrained(task["model"]).to(device)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    if task["work"] == "generate":

        def generate() -> None:
            frequent_token_ratio(
                cast_copy(model, dtype),
                range(100),
                Sampling(task["sequences"], task["new_tokens"]),
                vocab_size=model.config.vocab_size,
                banned=[model.config.vocab_size - 1],
                device=device,
            )
            wait()

        return generate

    optimizer = FusedAdamW(model.parameters(), lr=1e-4)
    if task["work"] == "adamw":
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        return lambda: (optimizer.step(), wait())

    tokens = batch_of(task, model.config.vocab_size)
    gradients = fast_gradients(dtype, task.get("micro_batch"))

    def train() -> None:
        for _ in range(task.get("samples", 1)):
            gradients(model, tokens[:, :-1], tokens[:, 1:])
            optimizer.step()
            optimizer.zero_grad()
        wait()

    if task["work"] == "start":
        train()
        return lambda: None
    if task["work"] == "profile":
        return lambda: {"parts": parts_of_a_step(lambda: gradients(model, tokens[:, :-1], tokens[:, 1:]), optimizer)}
    return train


def parts_of_a_step(gradients, optimizer) -> dict[str, float]:
    """Seconds of each part of a training step."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        gradients()
    began = time.perf_counter()
    optimizer.step()
    parts = dict.fromkeys([name for name, _ in PARTS], 0.0) | {OPTIMIZER: time.perf_counter() - began, REST: 0.0}
    optimizer.zero_grad()
    part_of = {f"aten::{operation}": name for name, operations in PARTS for operation in operations}
    for event in seen.key_averages():
        parts[part_of.get(event.key, REST)] += event.self_cpu_time_total / 1e6
    return parts


if __name__ == "__main__":
    serve(prepare)
