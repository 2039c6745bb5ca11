"""The benchmark's `--device` reaches both of its sides, and what it writes is of that device. Nothing is timed."""

import json

import pytest
import torch
from pretended import Pretended

from model.gpt2 import GPT2Config
from tests.bench import __main__ as bench
from tests.bench import alone, ours, page, workers
from tests.bench.rows import PARTS, least_seconds
from tests.bench.theirs import peak_bytes


@pytest.fixture
def asked(monkeypatch):
    """No environment, no model and no process is made; yields the side and the task of each that would be."""
    asked = []

    class Worker:
        start_seconds = 2.0

        def __init__(self, python, script, task):
            asked.append((script, task))

        def turn(self):
            return {"seconds": 1.0, "peak_bytes": 10**9, "parts": {"matrix products": 0.5, "AdamW": 0.25}}

        def close(self):
            pass

    for module in (bench, workers):
        monkeypatch.setattr(module, "Worker", Worker)
    for name, result in (("their_python", "python"), ("GPT2", None), ("save_pretrained", None)):
        monkeypatch.setattr(bench, name, lambda *_, result=result, **__: result)
    measured = {"matmul_peak": 1e12, "memory_bandwidth": 1e10, "command_seconds": 0.125}
    for name, result in measured.items():
        monkeypatch.setattr(alone, name, lambda *_, result=result: result)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "pretended")
    return asked


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_device_reaches_both_sides(command, asked, tmp_path, device):
    with Pretended():
        code, printed, err = command(bench.main, "--device", device, "--out", tmp_path)
    assert code == 0, err
    assert {side: {task["device"] for script, task in asked if script == side} for side, _ in asked} == {
        "ours.py": {device},
        "theirs.py": {device},
    }
    results = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert results["machine"]["device"] == ("pretended" if device == "cuda" else "cpu")
    assert (device == "cpu") == bool(results["profile"])
    assert "| training step, default settings, against float32 | 1.00 | 6;" in printed
    assert "| `--help` of `python -m train`, warm, seconds | 0.12 | 1.00 |" in printed
    # "auto" is for the other side what it is for ours.
    assert {task["dtype"] for script, task in asked if script == "theirs.py"} == {"bfloat16", "float32"}


def test_a_run_measures_and_its_share_is_told(command, asked, tmp_path, monkeypatch):
    """Of the default run, whose step takes a second here: 20 in a trial, 800 in a run."""
    monkeypatch.setattr(alone, "measuring", lambda *_: {"before": 10.0, "checkpoints": 5.0, "after": 5.0})
    monkeypatch.setattr(bench, "copy_tokenizer", lambda *_: None)
    monkeypatch.setattr(bench, "START", "left out")
    code, printed, err = command(bench.main, "--tokenizer", tmp_path, "--out", tmp_path)
    assert code == 0, err
    assert "share of its time that is not training | 0.50 | 0.33 |" in printed  # 20 of 40 seconds
    assert "share of its time that is not training | 0.02 | 0.05 |" in printed  # 20 of 820


def test_what_a_step_needs_at_least():
    """Two blocks of width 64 on 2 x 8 tokens, counted by hand."""
    config = GPT2Config(vocab_size=100, n_layer=2, n_head=1, n_embd=64)
    needed = least_seconds(config, 2, 8, torch.bfloat16, flops=1.0, bytes_per_second=1.0)
    tokens, weights, head = 16, 2 * 12 * 64**2, 100 * 64
    attention = 3 * tokens * 2 * 2 * 2 * 8 * 64  # two products of 2 x 8 x 64 a token and block, thrice
    assert needed["attention"] == attention and needed["matrix products"] == 6 * tokens * (weights + head)
    assert needed["GELU and its gradient"] == 2 * tokens * (2 * 4 + 3 * 4) * 64 * 2
    assert needed["AdamW"] == 28 * (weights + head)
    assert needed["softmax over the vocabulary"] == 2 * tokens * 100 * 4
    in_float32 = least_seconds(config, 2, 8, torch.float32, flops=1.0, bytes_per_second=1.0)
    assert in_float32["casts, copies, zeros"] == 0 and in_float32["norms"] == 2 * needed["norms"]


def test_the_parts_of_a_step_are_all_of_it(model_folder):
    """Every operation counts in one part, and only few in none."""
    operations = [operation for _, names in PARTS for operation in names]
    assert len(set(operations)) == len(operations)
    task = {"work": "profile", "model": str(model_folder), "device": "cpu", "dtype": "float32", "batch_size": 4}
    parts = ours.prepare(task | {"seq_len": 16})()["parts"]
    assert set(parts) == {*(name for name, _ in PARTS), "AdamW", "all else"} and min(parts.values()) > 0


def test_the_benchmarks_page_is_made_of_what_it_wrote():
    readme = (page.HERE / "README.md").read_text(encoding="utf-8")
    assert readme.split(page.MARK)[1] == page.page()


def test_a_device_that_is_not_there_is_said_before_anything_is_installed(refused, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "their_python", lambda folder: pytest.fail("something was installed"))
    monkeypatch.setattr("model.device.torch.empty", lambda *_, device: torch.zeros(1, device="toaster"))
    assert "device 'cuda' is not available here" in refused(bench.main, "--device", "cuda", "--out", tmp_path)


def test_a_gpus_memory_is_what_is_counted_on_one(monkeypatch):
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: 7)
    assert peak_bytes("cuda") == 7 and peak_bytes("cpu") > 10**7


@pytest.mark.parametrize("work", ["train", "generate", "adamw", "start"])
def test_our_side_works_on_the_device(model_folder, monkeypatch, work):
    """It waits until the device is done before it stops the clock."""
    waited = []
    monkeypatch.setattr("torch.cuda.synchronize", lambda: waited.append(work))
    task = {"work": work, "model": str(model_folder), "device": "cuda", "dtype": "float32", "batch_size": 2}
    with Pretended() as gpu:
        do = ours.prepare(task | {"seq_len": 8, "sequences": 3, "new_tokens": 4})
        do()
    assert len(waited) == 1 and len(gpu.sent) > 27  # a tensor for each parameter
