"""What a course notebook does: transformers, torch.optim.AdamW, generate; and what a compiled step does.

Run in an environment of its own.

Reads one JSON command a line, answers with the seconds it took: see `serve`.
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
    """
    task = json.loads(sys.argv[1])
    answers = sys.stdout
    sys.stdout = sys.stderr  # nothing else may speak between the answers
    work = prepare(task)
    print("{}", file=answers, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        found = work()
        answer = {"seconds": time.perf_counter() - began, "peak_bytes": peak_bytes(task["device"])}
        print(json.dumps(answer | (found if isinstance(found, dict) else {})), file=answers, flush=True)


def batch_of(task: dict, vocab_size: int):
    """The same random tokens (batch_size, seq_len + 1) for every side, on the task's device."""
    import torch

    size = (task["batch_size"], task["seq_len"] + 1)
    return torch.randint(vocab_size, size, generator=torch.Generator().manual_seed(0)).to(task["device"])


def prepare(task: dict):
    import torch

    if task.get("plain_model"):
        return compiled_step(task)
    from transformers import AutoModelForCausalLM

    device = torch.device(task["device"])
    low = task["dtype"] == "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(task["model"], dtype=torch.float32).to(device)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    if task["work"] == "generate":
        if low:
            model = model.to(torch.bfloat16)
        starts = torch.randint(
            model.config.vocab_size, (task["sequences"], 1), generator=torch.Generator().manual_seed(0)
        ).to(device)

        def generate() -> None:
            with torch.no_grad():
                model.generate(
                    starts,
                    attention_mask=torch.ones_like(starts),
                    do_sample=True,
                    top_k=50,
                    max_new_tokens=task["new_tokens"],
                    min_new_tokens=task["new_tokens"],
                    pad_token_id=model.config.eos_token_id,
                )
            wait()

        return generate

    fused = task["work"] == "adamw" or task.get("compile", False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, **({"fused": True} if fused else {}))
    if task["work"] == "adamw":
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        return lambda: (optimizer.step(), wait())

    if task.get("compile"):
        model.forward = torch.compile(model.forward)
    tokens = batch_of(task, model.config.vocab_size)

    def train() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            logits = model(tokens[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        loss.item()
        wait()

    if task["work"] == "start":
        train()
        return lambda: None
    return train


def compiled_step(task: dict):
    """nanoGPT's step, written anew with its settings: a plain GPT-2, compiled; autocast; fused AdamW; clipped gradients."""
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from model.gpt2 import GPT2, GPT2Config

    device, size = torch.device(task["device"]), json.loads((Path(task["model"]) / "config.json").read_text("utf-8"))
    config = GPT2Config(n_layer=size["n_layer"], n_head=size["n_head"], n_embd=size["n_embd"])
    model = GPT2(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = batch_of(task, config.vocab_size)

    @torch.compile
    def loss_of(inputs, targets):
        return torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    def train() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=task["dtype"] == "bfloat16"):
            loss = loss_of(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return train


if __name__ == "__main__":
    serve(prepare)
