"""What a course notebook does: transformers, torch.optim.AdamW, generate; and what a compiled step does.

Run by a Python that has transformers, or by ours where the task needs none.
"""

import json
import re
import resource
import sys
import time
from pathlib import Path


def peak_bytes(device: str) -> int:
    """The most memory that this process has held; of a GPU's, where `device` is one.

    `ru_maxrss` alone will not do: on Linux it also counts what the process that started this one held then.
    """
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        status = open("/proc/self/status", encoding="utf-8").read()
    except FileNotFoundError:  # not Linux; macOS counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status).group(1))


def serve(prepare) -> None:
    """Prepare what argv[1] (JSON) asks for, say so, then do it once for every line that comes.

    `prepare(task)` returns a function to be timed. Answers are JSON lines on standard output: the
    seconds, the most memory that this process has held so far, in bytes, and what the function returned if a dict.
    A GPU does 30 steps for a line, and their seconds are divided by 30: one is over before the clock can tell.
    """
    task = json.loads(sys.argv[1])
    answers = sys.stdout
    sys.stdout = sys.stderr  # nothing else may speak between the answers
    work = prepare(task)
    wait = (lambda: None) if task["device"] == "cpu" else sys.modules["torch"].cuda.synchronize
    wait()
    print("{}", file=answers, flush=True)
    times = 30 if task["device"] != "cpu" and task["work"] in ("train", "adamw") else 1
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(times):
            found = work()
        wait()
        answer = {"seconds": (time.perf_counter() - began) / times, "peak_bytes": peak_bytes(task["device"])}
        print(json.dumps(answer | (found if isinstance(found, dict) else {})), file=answers, flush=True)


def prepare(task: dict):
    import torch

    device, low, plain = torch.device(task["device"]), task["dtype"] == "bfloat16", "plain" in task
    if plain:
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
        from model.pretrained import load_pretrained

        model = load_pretrained(task["model"]).to(device)
    else:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(task["model"], dtype=torch.float32).to(device)

    def random_tokens(*size: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(model.config.vocab_size, size, generator=generator).to(device)

    if task["work"] == "generate":
        starts = random_tokens(task["sequences"], 1)
        return lambda: model.generate(
            starts,
            attention_mask=torch.ones_like(starts),
            do_sample=True,
            top_k=50,
            max_new_tokens=task["new_tokens"],
            min_new_tokens=task["new_tokens"],
            pad_token_id=model.config.eos_token_id,
        )

    # Of nanoGPT are AdamW's settings, the clipping, and the loss compiled together with the model.
    settings = {"betas": (0.9, 0.95), "weight_decay": 0.1} if plain else {}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=(plain or "compile" in task) or None, **settings)
    if task["work"] == "adamw":
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        return optimizer.step

    def loss_of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = model(inputs) if plain else model(inputs).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    if plain:
        loss_of = torch.compile(loss_of)
    elif task.get("compile"):
        model.forward = torch.compile(model.forward)
    tokens = random_tokens(task["batch_size"], task["seq_len"] + 1)

    def train() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            loss = loss_of(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        if plain:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    if task["work"] == "start":
        train()
    return train


if __name__ == "__main__":
    serve(prepare)
