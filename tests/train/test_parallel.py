"""Several processes: what each does of a batch and of a sweep, and that together they do what one would."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import stopping_after
from pretended import Pretended

import train.__main__ as train_command
from data.settings import Training
from train import sweep
from train.parallel import own_device, part_of, processes
from train.run import jobs as sweeping
from train.run.folder import Job
from train.run.lock import locked
from train.run.signals import ending_in_one_line

ROOT = Path(__file__).resolve().parents[2]
PLAIN = dataclasses.asdict(Training())  # the identity of a run without levers
SMALL = ("--batch-size", 5, "--seq-len", 16, "--samples", 4, "--dtype", "float32")
SMALL += ("--eval-sequences", 2, "--eval-tokens", 4)


def test_no_window_of_a_batch_is_left_out_or_done_twice():
    for B in range(1, 20):
        for size in range(1, B + 1):
            parts = [list(range(B))[part_of(B, rank, size)] for rank in range(size)]
            assert sum(parts, []) == list(range(B))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_two_processes_train_as_one(command, model_folder, text_file, tmp_path):
    """5 windows: 2 for one process, 3 for the other, in micro-batches of 2. They go on from one process's state, with
    levers.

    What is held out is nothing like the rest. Its loss rises after step 5, and the run ends at the next measurement.
    """
    (tmp_path / "text.txt").write_text(text_file.read_text(encoding="utf-8") + 400 * "€", encoding="utf-8")
    flags = ("--model", model_folder, "--text", tmp_path / "text.txt", "--lr", "1e-2", *SMALL, "--samples", 11)
    flags += tuple("--patience 1 --micro-batch 2 --warmup 2 --train last:2 --leash 0.1 --clip 1 --out".split())
    assert command(train_command.main, *flags, tmp_path / "one")[0] == 0
    with stopping_after(2):  # one process
        assert command(train_command.main, *flags, tmp_path / "two")[0] == 130
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--tee", "3"]
    done = subprocess.run(
        [*torchrun, "-m", "train", *map(str, flags), tmp_path / "two"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
    )
    printed = done.stdout
    assert done.returncode == 0 and "[default0]:continuing from step 2 of 11" in printed, printed
    assert len(re.findall(r"1e-2 +\d", printed)) == 1 and "[default1]" not in printed
    one, two = (json.loads((tmp_path / name / "result.json").read_text(encoding="utf-8")) for name in ("one", "two"))
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)
    assert len(two["train_loss"]) == 10 and two["best_step"] == 5
    assert two["train_loss"][:2] == one["train_loss"][:2] and two["train_loss"][3] != one["train_loss"][3]
    assert two["after"]["held_out_loss"] == pytest.approx(one["after"]["held_out_loss"], rel=1e-5)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == sorted(p.name for p in (tmp_path / "one").iterdir())


def test_processes_share_the_runs_of_a_sweep(command, model_folder, text_file, tmp_path, monkeypatch):
    """The second of two processes leaves the run that another one has; the first does that run, and reports."""
    out = tmp_path / "out"
    flags = ("--model", model_folder, "--text", text_file, "--lrs", "1e-2", "1e-3", "1e-4", "--out", out, *SMALL)
    monkeypatch.setattr(sweeping, "report", lambda folder: print(f"report in {folder}"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with monkeypatch.context() as patched:
        held = contextlib.nullcontext(False)
        patched.setattr(sweeping, "locked", lambda run: held if run.name == "lr-1e-2" else locked(run))
        code, second, err = command(sweep.main, *flags)
    assert code == 0 and "report in" not in second, err
    assert re.findall(r"(1e-\d), seed 0 \((\d) of 3\)\n", second) == [("1e-3", "2"), ("1e-4", "3")]
    monkeypatch.setenv("RANK", "0")
    code, first, err = command(sweep.main, *flags)
    assert code == 0 and re.findall(r"(1e-\d), seed 0 \(\d of 3\)\n", first) == ["1e-2"], err
    assert first.count("is finished already") == 2 and f"report in {out}" in first
    for lr in ("1e-2", "1e-3", "1e-4"):
        assert (first + second).count(f"\n{lr} done in ") == 1
        assert sorted(p.name for p in (out / f"lr-{lr}").iterdir()) == [
            *("README.md", "config.json", "merges.txt", "model.safetensors", "result.json", "vocab.json")
        ]


def test_more_processes_than_windows(command, model_folder, text_file, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "8")
    code, _, err = command(train_command.main, "--model", model_folder, "--text", text_file, *SMALL)
    assert code == 2 and err == "error: --batch-size 5 leaves some of the 8 processes without a window\n"
    code, _, err = command(sweep.main, "--model", model_folder, "--text", text_file, "--overwrite")
    assert code == 2 and "--overwrite is for one process" in err


def test_every_process_of_a_machine_has_its_own_gpu(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert own_device("auto") == "auto" and processes() == (0, 1)
    monkeypatch.setenv("LOCAL_RANK", "6")
    assert own_device("auto") == own_device("cuda") == "cuda:2"
    assert own_device("cpu") == "cpu" and own_device("cuda:1") == "cuda:1"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device("auto") == "auto" and own_device("cuda") == "cuda"


@pytest.mark.parametrize("rank", range(3))
def test_each_process_of_one_run_needs_a_gpu(refused, monkeypatch, rank):
    """NCCL refuses two on one GPU with a traceback, or hangs: every process says it in one line before that."""
    for name, number in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", 3), ("LOCAL_WORLD_SIZE", 3)):
        monkeypatch.setenv(name, str(number))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr("train.parallel.dist.init_process_group", lambda *_, **__: pytest.fail("connects"))
    with Pretended():
        err = refused(train_command.main, "--device", "cuda")
    assert err == "error: 3 processes of one run need 3 GPUs, and there are 2; start at most 2\n"


def test_who_does_which_run_and_who_waits(tmp_path, monkeypatch):
    """Each begins at its own place; the first waits for a run that another has, and takes it if it is left."""

    def walk(rank: int, holder_dies: bool = False) -> list[str]:
        monkeypatch.setenv("RANK", str(rank))
        jobs = [Job(1.0, i, tmp_path / f"{rank}{holder_dies}" / str(i), PLAIN) for i in range(3)]
        seen, held = [], {jobs[2].folder}

        def finish(job):
            job.folder.mkdir(parents=True)
            (job.folder / "result.json").touch()

        monkeypatch.setattr(Job, "finished", property(lambda job: job.folder.is_dir()))

        @contextlib.contextmanager
        def locked(folder):
            yield folder not in held

        def sleep(seconds):
            seen.append("waits")
            held.clear()
            if not holder_dies:
                finish(jobs[2])

        monkeypatch.setattr(sweeping, "locked", locked)
        monkeypatch.setattr("train.parallel.time.sleep", sleep)
        monkeypatch.setattr(sweeping, "begin", lambda *_: None)
        monkeypatch.setattr(sweeping, "run", lambda baseline, job, signals: (seen.append(str(job.seed)), finish(job)))
        sweeping.work(None, jobs, None)
        return seen

    assert walk(0) == ["0", "1", "waits"]
    assert walk(0, holder_dies=True) == ["0", "1", "waits", "2"]
    assert walk(1) == ["1", "0"]
    assert walk(5) == ["0", "1"]  # 5 modulo 3 begins at the one that is held


def test_who_waits_says_for_whom_every_half_minute_and_hears_signals(tmp_path, monkeypatch, capsys):
    """The first process of a sweep, whose other two runs are held for 61 seconds, and then a SIGTERM comes."""
    jobs = [Job(lr, 0, tmp_path / name, PLAIN) for lr, name in ((1e-3, "a"), (1e-4, "b"))]
    seconds = []
    for job, who in zip(jobs, ("pid 12 on node3", "")):
        job.folder.mkdir()
        (job.folder / "run.lock").write_text(who, encoding="utf-8")

    def sleep(length):
        seconds.append(length)
        if sum(seconds) > 60:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(sweeping, "locked", lambda folder: contextlib.nullcontext(False))
    monkeypatch.setattr("train.parallel.time.sleep", sleep)
    with pytest.raises(SystemExit) as end, ending_in_one_line() as signals:
        sweeping.work(None, jobs, signals)
    printed, err = capsys.readouterr()
    assert end.value.code == 143 and err == "\nstopped by SIGTERM\n" and len(seconds) == 61
    assert printed == 3 * "waiting for 1e-3 (pid 12 on node3), 1e-4 (another process)\n"
