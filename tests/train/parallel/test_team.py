"""Several processes: what each does of a batch and of a sweep, and that together they do what one would."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tqdm import tqdm

import train.__main__ as train_command
from train import sweep
from train.lasting import jobs as sweeping
from train.lasting.folder import Job
from train.lasting.interruption import ending_in_one_line
from train.lasting.keeper import Keeper
from train.parallel.team import Prefixed, meeting, own_device, part_of, processes

ROOT = Path(__file__).resolve().parents[3]
SMALL = ("--batch-size", 5, "--seq-len", 16, "--eval-sequences", 2, "--eval-tokens", 4, "--samples", 4)


def torchrun(*arguments) -> str:
    """What `torchrun --nproc-per-node 2 -m ...` prints; the processes find each other at a free port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_no_window_of_a_batch_is_left_out_or_done_twice():
    for B in range(1, 20):
        for size in range(1, B + 1):
            parts = [list(range(B))[part_of(B, rank, size)] for rank in range(size)]
            assert sum(parts, []) == list(range(B))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_two_processes_train_as_one(command, model_folder, text_file, tmp_path):
    """5 windows: 2 for one process, 3 for the other, in micro-batches of 2. They go on from one process's state."""
    flags = ("--model", model_folder, "--text", text_file, "--lr", "1e-2", "--dtype", "float32", *SMALL)
    assert command(train_command.main, *flags, "--micro-batch", 2, "--out", tmp_path / "one")[0] == 0
    together = (*flags, "--micro-batch", 2, "--out", tmp_path / "two")
    save = Keeper.save

    def saves_and_stops(keeper, record):
        save(keeper, record)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:  # one process, stopped after the second sample
        patched.setattr(Keeper, "due", lambda keeper: keeper.optimizer.steps == 2)
        patched.setattr(Keeper, "save", saves_and_stops)
        assert command(train_command.main, *together)[0] == 130
    printed = torchrun("train", *together)
    assert "going on from sample 2 of 4" in printed and len(re.findall(r"^1e-2 +\d", printed, re.MULTILINE)) == 1
    one, two = (json.loads((tmp_path / name / "result.json").read_text(encoding="utf-8")) for name in ("one", "two"))
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)
    assert two["train_loss"][:2] == one["train_loss"][:2] and two["train_loss"][3] != one["train_loss"][3]
    assert two["after"]["held_out"]["loss"] == pytest.approx(one["after"]["held_out"]["loss"], rel=1e-5)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == sorted(p.name for p in (tmp_path / "one").iterdir())


def test_two_processes_share_a_sweep(model_folder, text_file, tmp_path):
    out = tmp_path / "out"
    flags = ("--model", model_folder, "--text", text_file, "--lrs", "1e-2", "1e-3", "1e-4", "--out", out, *SMALL)
    printed = torchrun("train.sweep", *flags)
    for lr in ("1e-2", "1e-3", "1e-4"):
        assert len(re.findall(rf"learning rate {lr}, seed 0 \(\d of 3\)\n", printed)) == 1, printed
        assert len(re.findall(rf"^(?:\[process 1\] )?{lr} done in ", printed, re.MULTILINE)) == 1
        assert f"\n{lr}  " in printed
        assert sorted(p.name for p in (out / f"lr-{lr}").iterdir()) == [
            *("README.md", "config.json", "merges.txt", "model.safetensors", "result.json", "vocab.json")
        ]
    assert "[process 1] learning rate 1e-3, seed 0 (2 of 3)" in printed  # the second begins at another place
    assert (
        printed.count("report.html") == 1 and "\r" not in printed and (out / "table.md").is_file()
    )  # and the first alone reports


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
    assert own_device("auto") == "cuda:2" and own_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device("auto") == "auto"


def test_lines_of_other_processes_are_told_apart():
    stream = io.StringIO()
    prefixed = Prefixed(stream, "[1] ")
    stream.isatty = lambda: True
    for text in ("one\ntw", "o\n", "\n", "three"):
        prefixed.write(text)
    for _ in tqdm(range(3), "bar", file=prefixed, mininterval=0, disable=None):
        pass
    assert stream.getvalue() == "[1] one\n[1] two\n[1]\n"


def test_who_does_which_run_and_who_waits(tmp_path, monkeypatch):
    """Each begins at its own place; the first waits for a run that another has, and takes it if it is left."""

    def walk(rank: int, holder_dies: bool = False) -> list[str]:
        jobs = [Job(1.0, i, tmp_path / f"{rank}{holder_dies}" / str(i), {}) for i in range(3)]
        seen, held = [], {jobs[2].folder}

        def finish(job):
            job.folder.mkdir(parents=True)
            (job.folder / "result.json").touch()

        @contextlib.contextmanager
        def claimed(folder):
            yield folder not in held

        def sleep(seconds):
            seen.append("waits")
            held.clear()
            if not holder_dies:
                finish(jobs[2])

        monkeypatch.setattr(sweeping, "claimed", claimed)
        monkeypatch.setattr("train.parallel.team.time.sleep", sleep)
        monkeypatch.setattr(sweeping, "begin", lambda *_: "start")
        monkeypatch.setattr(
            sweeping, "run", lambda plan, start, job, signals: (seen.append(str(job.seed)), finish(job))
        )
        sweeping.work(None, jobs, None, rank)
        return seen

    assert walk(0) == ["0", "1", "waits"]
    assert walk(0, holder_dies=True) == ["0", "1", "waits", "2"]
    assert walk(1) == ["1", "0"]
    assert walk(5) == ["0", "1"]  # 5 modulo 3 begins at the one that is held


def test_who_waits_says_for_whom_every_half_minute_and_hears_signals(tmp_path, monkeypatch, capsys):
    """The first process of a sweep, whose other two runs are held for 61 seconds, and then a SIGTERM comes."""
    jobs = [Job(lr, 0, tmp_path / name, {}) for lr, name in ((1e-3, "a"), (1e-4, "b"))]
    seconds = []
    for job, who in zip(jobs, ("pid 12 on node3", "")):
        job.folder.mkdir()
        (job.folder / "run.lock").write_text(who, encoding="utf-8")

    def sleep(length):
        seconds.append(length)
        if sum(seconds) > 60:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(sweeping, "claimed", lambda folder: contextlib.nullcontext(False))
    monkeypatch.setattr("train.parallel.team.time.sleep", sleep)
    with pytest.raises(SystemExit) as end, ending_in_one_line() as signals:
        sweeping.work(None, jobs, signals, 0)
    printed, err = capsys.readouterr()
    assert end.value.code == 143 and err == "\nstopped by SIGTERM\n" and len(seconds) == 61
    assert printed == 3 * "waiting for 1e-3 (pid 12 on node3), 1e-4 (another process)\n"


@pytest.mark.parametrize("rank", [0, 1])
def test_the_processes_of_one_run_meet_and_hear_signals(rank, monkeypatch, capsys):
    """The second of three comes after half a minute, the third never."""
    store, seconds = dist.HashStore(), []

    def sleep(length):
        seconds.append(length)
        if len(seconds) == 30:
            store.add("there", 1)
        if len(seconds) == 40:
            raise KeyboardInterrupt

    monkeypatch.setattr("train.parallel.team.time.sleep", sleep)
    monkeypatch.setattr(dist, "rendezvous", lambda *_, **__: iter([(store, rank, 3)]))
    with pytest.raises(KeyboardInterrupt):
        meeting()
    told = "waiting for 2 of 3 processes\nwaiting for 1 of 3 processes\n"
    assert capsys.readouterr().out == ("" if rank else told)
    assert meeting() is store and len(seconds) == 40
