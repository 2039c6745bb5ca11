"""The same work as in bench_theirs.py, done as this project's commands do it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.bench_theirs import serve  # noqa: E402


def prepare(task: dict):
    import torch

    from evaluate.ratio import Sampling, frequent_token_ratio
    from model.device import dtype_of
    from model.pretrained import load_pretrained
    from model.sampling import cast_copy
    from train.speed.adamw import CompiledAdamW, FastAdamW
    from train.speed.memory import keep_memory
    from train.speed.step import fast_gradients

    device = torch.device(task["device"])
    keep_memory()
    torch.backends.cuda.matmul.allow_tf32 = True  # as open_plan in train/lasting/run.py does
    dtype = dtype_of(task["dtype"], device)
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

    optimizer = (CompiledAdamW if task.get("compile") else FastAdamW)(model.parameters(), lr=1e-4)
    if task["work"] == "adamw":
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        return lambda: (optimizer.step(), wait())

    size = (task["batch_size"], task["seq_len"] + 1)
    tokens = torch.randint(model.config.vocab_size, size, generator=torch.Generator().manual_seed(0)).to(device)
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
    return train


if __name__ == "__main__":
    serve(prepare)
