"""The benchmark: what it asks of both sides, on which device, and what it writes. Nothing is timed."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from pretended import Pretended

from data.tokenizer import load_tokenizer
from model.hub import LILLIPUT
from tests.bench import __main__ as bench
from tests.bench import ours, page, theirs, workers
from tests.bench.rows import NOT_ON, PAIRS, PARTS, step_flops
from train import sweep


@pytest.fixture
def asked(monkeypatch):
    """No environment, no model and no process is made; yields the Python, side and task of each that would be."""
    asked = []

    class Worker:
        start_seconds = 2.0

        def __init__(self, python, script, task):
            asked.append((python, script, task))

        def turn(self):
            launches = {"a training step": {"launches": 300, "kernels": 699}}
            return {"seconds": 1.0, "peak_bytes": 10**9, "profile": {"AdamW": 0.25}, "launches": launches}

        def close(self):
            pass

    for module in (bench, workers):
        monkeypatch.setattr(module, "Worker", Worker)
    runs = {"in all": {"the command": 90.0}, "lr-1e-4": {"before": 10.0, "checkpoints": 10.0, "training": 20.0}}
    stand_ins = {"their_python": "python", "GPT2": None, "save_pretrained": None, "copy_tokenizer": None}
    stand_ins |= {"matmul_peak": 1e12, "run_seconds": runs}
    for name, result in stand_ins.items():
        monkeypatch.setattr(bench, name, lambda *_, result=result, **__: result)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "pretended")
    return asked


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_row_is_measured_on_the_device(command, asked, tmp_path, device):
    with Pretended():
        code, printed, err = command(bench.main, "--device", device, "--out", tmp_path, "--tokenizer", LILLIPUT)
    assert code == 0, err
    assert {task["device"] for _, _, task in asked} == {device}
    results = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert results["machine"]["device"] == ("pretended" if device == "cuda" else "cpu")
    assert PAIRS.keys() - results["pairs"].keys() == {NOT_ON[device]}
    assert "| training step, default settings, against float32 | 1.00 | 6; 3.5 GB |" in printed
    # "auto" is for the other side what it is for ours.
    assert {task["dtype"] for _, side, task in asked if side == "theirs.py"} == {"bfloat16", "float32"}
    of_gpu, of_cpu = ("| a training step | 300 | 699 |", "800 samples, lr-1e-4: before 10.0 s"), ("| AdamW | 0.25 s |",)
    assert [words in printed for words in (*of_gpu, *of_cpu)] == [device == word for word in ("cuda", "cuda", "cpu")]
    # A step takes a second here: 20 seconds of a trial are training and 20 are not, and 800 of a run.
    shares = [f"Not training: {share} %" in printed for share in (50, 2)]
    assert shares == 2 * [device == "cpu"]


@pytest.fixture
def no_transformers(monkeypatch):
    monkeypatch.setattr(workers.importlib.util, "find_spec", lambda name: None)


def test_without_transformers_and_network_only_the_rows_against_them_are_left_out(
    command, asked, tmp_path, monkeypatch, no_transformers
):
    def refuses(line, **_):
        raise subprocess.CalledProcessError(1, line)

    monkeypatch.setattr(workers, "run", refuses)
    monkeypatch.setattr(workers.venv, "create", lambda *_, **__: None)
    monkeypatch.setattr(bench, "their_python", workers.their_python)
    for only in ("step", "generation"):
        code, printed, err = command(bench.main, "--only", only, "--out", tmp_path / only, "--environment", tmp_path)
        assert code == 0 and printed.count("are left out") == 1, err
    others = [(python, "compile" in task, task["work"]) for python, side, task in asked if side == "theirs.py"]
    assert others == [(sys.executable, False, "train"), (sys.executable, False, "adamw")]


def test_transformers_is_installed_only_where_it_is_not(tmp_path, monkeypatch, no_transformers):
    installed = []
    monkeypatch.setattr(workers, "run", lambda line, **_: installed.append(line[-1]))
    monkeypatch.setattr(workers.venv, "create", lambda *_, **__: None)
    assert [workers.their_python(tmp_path).startswith(str(tmp_path)) for _ in range(2)] == [True, True]
    assert installed == ["transformers>=5,<6"]
    monkeypatch.setattr(workers.importlib.util, "find_spec", lambda name: name == "transformers")
    assert workers.their_python(tmp_path) == sys.executable


def test_a_row_that_fails_is_told_and_the_others_are_measured(command, asked, tmp_path, monkeypatch):
    def ends(*_):
        raise RuntimeError("theirs.py ended with code 1: no compiler")

    monkeypatch.setattr(bench, "compare", ends)
    code, printed, err = command(bench.main, "--out", tmp_path)
    assert code == 0 and printed.count("no compiler") == len(PAIRS) - 1 and "| AdamW | 0.25 s |" in printed, err


def test_a_worker_that_ends_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="ended with code 1: .*Error"):
        workers.Worker(sys.executable, "ours.py", {"work": "train"})


def test_the_seconds_of_a_sweep_are_those_of_its_runs(command, small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "run", lambda line, check: command(sweep.main, *line[3:]))
    found = workers.run_seconds("train.sweep", *map(str, small_run), "--lrs", "1e-3", "1e-4")
    assert found.keys() == {"in all", "lr-1e-3", "lr-1e-4"} and found["lr-1e-3"].keys() >= {
        "before",
        "training",
        "after",
    }


def test_without_a_tokenizer_a_sweep_has_lilliputs(command, asked, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(bench, "GPT2", lambda config: made.append(config))
    monkeypatch.setattr(bench, "copy_tokenizer", lambda source, folder: made.append(load_tokenizer(source).n_vocab))
    with Pretended():
        assert command(bench.main, "--device", "cuda", "--only", "sweep", "--out", tmp_path)[0] == 0
    assert [made[1].vocab_size, made[2]] == [4096, 4096] and (made[1].n_layer, made[1].n_embd) == (12, 768)


def test_the_products_of_a_step():
    """Two blocks of width 64 on 2 x 8 tokens, counted by hand."""
    tokens, weights, head = 16, 2 * 12 * 64**2, 50257 * 64
    attention = 3 * tokens * 2 * 2 * 2 * 8 * 64  # two products of 2 x 8 x 64 a token and block, thrice
    assert step_flops(2, 64, 2, 8) == attention + 6 * tokens * (weights + head)


def test_the_parts_of_a_step_are_all_of_it(model_folder):
    """Every operation counts in one part, and only few in none."""
    operations = [operation for _, names in PARTS for operation in names]
    assert len(set(operations)) == len(operations)
    task = {"work": "profile", "model": str(model_folder), "device": "cpu", "dtype": "float32", "batch_size": 4}
    parts = ours.prepare(task | {"seq_len": 16})()["profile"]
    assert set(parts) == {*(name for name, _ in PARTS), "all else"} and min(parts.values()) > 0


def test_launches_and_kernels_are_counted_apart(monkeypatch):
    on_gpu, on_cpu = (torch.autograd.DeviceType.__members__[name] for name in ("CUDA", "CPU"))
    events = [("cudaLaunchKernel", on_cpu, 6), ("cudaGraphLaunch", on_cpu, 2), ("aten::mm", on_cpu, 5)]
    events += [("gemm", on_gpu, 10), ("Memcpy DtoD", on_gpu, 3)]
    seen = [SimpleNamespace(key=key, device_type=where, count=count) for key, where, count in events]
    monkeypatch.setattr(ours, "profiled", lambda *_: seen)
    assert ours.launches(None, 2) == {"launches": 4, "kernels": 5}


def test_the_benchmarks_page_is_made_of_what_it_wrote():
    readme = (page.HERE / "README.md").read_text(encoding="utf-8")
    assert readme.split(page.MARK)[1] == page.page()


def test_a_device_that_is_not_there_is_said_before_anything_is_installed(refused, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "their_python", lambda folder: pytest.fail("something was installed"))
    monkeypatch.setattr("model.device.torch.empty", lambda *_, device: torch.zeros(1, device="toaster"))
    assert "device 'cuda' is not available here" in refused(bench.main, "--device", "cuda", "--out", tmp_path)


def test_a_gpus_memory_is_what_is_counted_on_one(monkeypatch):
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: 7)
    assert theirs.peak_bytes("cuda") == 7 and theirs.peak_bytes("cpu") > 10**7


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize(
    "side, work",
    [(ours, work) for work in ("train", "adamw", "start", "generate", "launches")]
    + [(theirs, work) for work in ("train", "adamw")],
)
def test_a_side_works_on_the_device(model_folder, monkeypatch, side, work):
    """The other side as far as it needs no transformers; nothing is compiled."""
    monkeypatch.setattr("torch.compile", lambda function: function)
    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
    task = {"work": work, "model": str(model_folder), "device": "cuda", "dtype": "float32", "batch_size": 2}
    with Pretended() as gpu:
        side.prepare(task | {"seq_len": 8, "sequences": 3, "new_tokens": 4, "plain": True})()
    assert len(gpu.sent) > 27  # a tensor for each parameter


@pytest.mark.parametrize("device, work, times", [("cuda", "train", 30), ("cuda", "generate", 1), ("cpu", "train", 1)])
def test_a_gpu_does_30_steps_a_turn_and_is_waited_for_once(monkeypatch, capsys, device, work, times):
    done = []
    monkeypatch.setattr("torch.cuda.synchronize", lambda: done.append("waited"))
    monkeypatch.setattr(theirs, "peak_bytes", lambda device: 7)
    monkeypatch.setattr(theirs.time, "perf_counter", iter([100.0, 160.0]).__next__)
    monkeypatch.setattr(sys, "argv", ["", json.dumps({"device": device, "work": work})])
    monkeypatch.setattr(sys, "stdin", ["\n"])
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    theirs.serve(lambda task: lambda: done.append("worked"))
    waited = ["waited"] * (device == "cuda")
    assert done == waited + times * ["worked"] + waited
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"seconds": 60 / times, "peak_bytes": 7}
