"""The benchmark's `--device` reaches both of its sides, and what it writes is of that device. Nothing is timed."""

import json

import pytest
import torch
from pretended import Pretended

from tests import bench, bench_ours
from tests.bench_theirs import peak_bytes


@pytest.fixture
def workers(monkeypatch):
    """No environment, no model and no process is made; yields the side and the task of each that would be."""
    asked = []

    class Worker:
        start_seconds = 2.0

        def __init__(self, python, script, task):
            asked.append((script, task))

        def turn(self):
            return {"seconds": 1.0, "peak_bytes": 10**9}

        def close(self):
            pass

    monkeypatch.setattr(bench, "Worker", Worker)
    for name, result in (("their_python", "python"), ("GPT2", None), ("save_pretrained", None), ("matmul_peak", 1e12)):
        monkeypatch.setattr(bench, name, lambda *_, result=result, **__: result)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "pretended")
    return asked


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_device_reaches_both_sides(command, workers, tmp_path, device):
    with Pretended():
        code, printed, err = command(bench.main, "--device", device, "--out", tmp_path)
    assert code == 0, err
    assert {side: {task["device"] for script, task in workers if script == side} for side, _ in workers} == {
        "bench_ours.py": {device},
        "bench_theirs.py": {device},
    }
    results = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert results["machine"]["device"] == ("pretended" if device == "cuda" else "cpu")
    # What is for CPUs: the row of --compile, and what was aimed at.
    assert any("--compile" in name for name in results["pairs"]) == (device == "cpu")
    assert {pair["aim"] is None for pair in results["pairs"].values()} == {device == "cuda"}
    assert ("| 1.00 | 4 to 5 |" in printed) == (device == "cpu")


def test_a_device_that_is_not_there_is_said_before_anything_is_installed(command, workers, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "their_python", lambda folder: pytest.fail("something was installed"))
    monkeypatch.setattr("model.device.torch.empty", lambda *_, device: torch.zeros(1, device="toaster"))
    code, _, err = command(bench.main, "--device", "cuda", "--out", tmp_path)
    assert code == 2 and "device 'cuda' is not available here" in err and err.count("\n") == 1


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
        do = bench_ours.prepare(task | {"seq_len": 8, "sequences": 3, "new_tokens": 4})
        do()
    assert len(waited) == 1 and len(gpu.sent) > 27  # a tensor for each parameter
