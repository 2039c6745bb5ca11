"""Runs that were stopped: they go on and end as if nothing had been, and nothing of theirs is lost or mixed up."""

import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from conftest import make_text, without_seconds
from safetensors.torch import load_file, save_file

import train.__main__ as train_command
from data.settings import Training
from data.tokenizer import load_tokenizer
from evaluate.results import read_result
from model.hub import MODEL_FILES
from model.pretrained import load_pretrained
from train import sweep
from train.adamw import AdamW
from train.loop import Diverged, finetune, plain_gradients
from train.run.card import CARD_FILE, FIRST_WORDS
from train.run.checkpoint import Checkpointer, is_due, load_checkpoint, save_checkpoint
from train.run.folder import delete_runs, runs_in
from train.run.lock import locked
from train.run.signals import Interrupted, Signals, ending_in_one_line

ROOT = Path(__file__).resolve().parents[3]


# Killed and told to stop


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, model_folder, text_file):
    """The cases of interrupted.py: their folder, exit codes and files left, each by name."""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    out = tmp_path_factory.mktemp("stopped")
    # One thread: what is compared bit for bit must not depend on how sums are shared out.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, Path(__file__).with_name("interrupted.py"), out, model_folder, text_file]
    subprocess.run(command, check=True, env=environment, timeout=200)
    codes, files = json.loads((out / "codes.json").read_text(encoding="utf-8"))
    return out, codes, files


def printed(out: Path, name: str) -> str:
    return (out / f"{name}.txt").read_text(encoding="utf-8")


def test_killed_again_and_again_is_the_same_run(stopped):
    """Between two saves, while saving, told to stop, in the evaluation, before the result: bit for bit the same."""
    out, codes, files = stopped
    going_on = {name: re.findall(r"continuing from step (\d+) of 12", printed(out, name)) for name in codes}
    expected = {
        "whole": (0, []),
        "killed": (-signal.SIGKILL, []),  # in sample 7, after the state of 4
        "killed while writing": (-signal.SIGKILL, ["4"]),  # 6 is saved, the state of 8 never gets its name
        "ctrl-c": (130, ["6"]),  # in the second sample from there: 8
        "sigterm": (143, ["8"]),
        "killed in the evaluation": (-signal.SIGKILL, ["9"]),
        "killed before the result": (-signal.SIGKILL, ["12"]),
        "finished": (0, ["12"]),
    }
    assert {name: (codes[name], going_on[name]) for name in expected} == expected
    assert (out / "chain" / "model.safetensors").read_bytes() == (out / "whole" / "model.safetensors").read_bytes()
    chain, whole = without_seconds(out / "chain"), without_seconds(out / "whole")
    assert len(whole["train_loss"]) == 12 and len(whole["checkpoints"]) == 5 and whole["best_step"] == 6
    assert chain == whole and chain["best"]
    assert files["killed"] == ["best", "checkpoint.safetensors", "run.json", "run.lock"]
    assert files["finished"] == files["whole"]  # whatever the killed ones left is gone
    assert files["whole"] == sorted(("README.md", "best", "result.json", *MODEL_FILES))


def test_ctrl_c_says_in_one_line_what_became_of_the_run(stopped):
    out, codes, files = stopped
    assert "\nstopped by Ctrl-C; the same command continues from step 8 of 12\n" in printed(out, "ctrl-c")
    assert "\nstopped by SIGTERM; the same command continues from step 9 of 12\n" in printed(out, "sigterm")
    # The second one does not wait for the end of the sample, and saves nothing.
    assert codes["ctrl-c twice"] == 130 and "checkpoint.safetensors" not in files["ctrl-c twice"]
    assert codes["ctrl-c before training"] == 130
    for name in ("ctrl-c", "ctrl-c twice", "ctrl-c before training"):
        assert "stopped by Ctrl-C" in printed(out, name).splitlines()[-1] and "Traceback" not in printed(out, name)


def test_a_full_disk_costs_the_state_and_not_the_run(stopped):
    out, codes, _ = stopped
    assert codes["full disk"] == 0
    warning = "warning: the checkpoint after step 3 was not saved ([Errno 28] No space left on device)"
    assert warning in printed(out, "full disk")
    assert without_seconds(out / "full") == without_seconds(out / "whole")


def test_a_signal_waits_only_in_training(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    signals = Signals()
    with pytest.raises(Interrupted, match="Ctrl-C"):
        signals.handle(signal.SIGINT, None)
    with signals.deferred():
        signals.handle(signal.SIGTERM, None)
        assert signals.received == signal.SIGTERM
        with pytest.raises(Interrupted):
            signals.handle(signal.SIGTERM, None)
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")  # torchrun passes on what each process has got already
        signals.handle(signal.SIGTERM, None)
    with pytest.raises(Interrupted, match="SIGTERM"):
        signals.handle(signal.SIGTERM, None)


# The state


def test_when_the_next_state_is_due():
    assert not is_due(59.9, 0.1) and is_due(60.0, 0.1)
    assert not is_due(99.9, 2.0) and is_due(100.0, 2.0)
    for took in (0.0, 0.5, 1.2, 3.0, 100.0):  # under 2 % of the time
        first = next(since for since in range(10**5) if is_due(since, took))
        assert took / (first + took) < 0.02


def test_a_short_training_saves_no_state_at_its_end(command, arguments, tmp_path, monkeypatch):
    """Seconds later it would be deleted. After a minute, or where it is asked for, the state is saved."""
    steps = []
    monkeypatch.setattr(Checkpointer, "save", lambda saver, history: steps.append(saver.optimizer.steps))

    def saved(*flags):
        steps.clear()
        assert command(train_command.main, *arguments, *flags, "--overwrite")[0] == 0
        return list(steps)

    assert saved() == [] and saved("--keep-state") == [4]
    with monkeypatch.context() as patched:
        patched.setattr("train.run.checkpoint.is_due", lambda since, took: is_due(since + 60, 1e6 * took))
        assert saved() == [4]
    monkeypatch.setattr("train.run.run.Recorder.out_of_patience", property(lambda run: run.optimizer.steps == 2))
    assert saved() == [] and saved("--keep-state") == [2]


def test_the_time_of_a_save_is_measured(model_folder, tmp_path, monkeypatch):
    model = load_pretrained(model_folder)
    checkpointer = Checkpointer(tmp_path / "file", model, AdamW(model.parameters(), lr=1e-2), {})
    seconds = iter((100.0, 103.5))
    monkeypatch.setattr("train.run.checkpoint.time.monotonic", lambda: next(seconds))
    assert checkpointer.save({}) and checkpointer.took == 3.5


def test_every_bit_of_a_state_is_checked(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    save_checkpoint(file, {"w": torch.arange(40.0), "n": torch.tensor(3)}, {"steps": 7})
    whole = file.read_bytes()
    for place in range(0, len(whole), 5):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="damaged .* delete it"):
            load_checkpoint(file)
    file.write_bytes(whole)
    assert load_checkpoint(file)[1] == {"steps": 7}


def test_a_keeper_brings_back_all_that_training_depends_on(model_folder, text_file, tmp_path):
    tokens = torch.tensor(load_tokenizer(model_folder).encode_ordinary(text_file.read_text(encoding="utf-8")))

    def train(model, optimizer, samples):
        return list(finetune(model, tokens, optimizer, Training(samples, batch_size=3, seq_len=8)))

    def fresh(seed):
        model = load_pretrained(model_folder, dropout=0.3)
        torch.manual_seed(seed)
        optimizer = AdamW(model.parameters(), lr=1e-2)
        return model, optimizer, Checkpointer(tmp_path / "checkpoint.safetensors", model, optimizer, {"lr": 1e-2})

    model, optimizer, keeper = fresh(1)
    assert keeper.restore() is None
    train(model, optimizer, 3)
    assert keeper.save({"train_loss": [1.5]})
    expected = train(model, optimizer, 6)
    straight, optimizer, _ = fresh(1)
    assert train(straight, optimizer, 6)[3:] == expected
    other, optimizer, keeper = fresh(2)
    assert keeper.restore() == {"train_loss": [1.5]} and optimizer.steps == 3
    assert train(other, optimizer, 6) == expected
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


# What is in the folder already


@pytest.fixture
def arguments(small_run, tmp_path):
    return (*small_run, "--out", tmp_path / "out")


@pytest.fixture
def unfinished(command, arguments, tmp_path, monkeypatch):
    """A run that a signal has stopped in its second sample; returns its folder."""

    def pulls_the_plug(*args, **kwargs):
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        calls.append(1)
        return plain_gradients(*args, **kwargs)

    calls = []
    with monkeypatch.context() as patched:
        patched.setattr("train.run.run.fast_gradients", lambda *_: pulls_the_plug)
        code, _, err = command(train_command.main, *arguments)
    assert code == 143, err
    return tmp_path / "out"


def test_a_terminal_that_closes_is_a_signal_and_nohup_is_heeded():
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with pytest.raises(SystemExit) as end, ending_in_one_line():
            os.kill(os.getpid(), signal.SIGHUP)
        assert end.value.code == 128 + signal.SIGHUP and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with ending_in_one_line():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN != signal.getsignal(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_settings_do_not_go_on(refused, arguments, unfinished, model_folder, text_file, tmp_path):
    files = {file.name: file.read_bytes() for file in unfinished.iterdir()}
    assert sorted(files) == ["checkpoint.safetensors", "run.json"]
    other_text, other_model = tmp_path / text_file.name, tmp_path / "model"
    other_text.write_text(make_text(1900, seed=7), encoding="utf-8")
    shutil.copytree(model_folder, other_model)
    weights = load_file(other_model / "model.safetensors")
    save_file(weights | {"ln_f.bias": weights["ln_f.bias"] + 1}, other_model / "model.safetensors", {"format": "pt"})
    for flags, difference in (
        (("--lr", "1e-3"), "lr was 0.0001, is 0.001;"),
        (("--batch-size", 5), "batch_size was 4, is 5;"),
        (("--seed", 1), "sampling_seed was 0, is 1, seed was 0, is 1;"),
        (("--text", other_text), r"text_sha256 was \w{64}, is \w{64}"),
        (("--model", other_model), r"model_sha256 was \w{64}, is \w{64};"),
    ):
        assert re.search(difference, refused(train_command.main, *arguments, *flags))
    # A run that was killed before its first state is recognised as well.
    (unfinished / "checkpoint.safetensors").unlink()
    assert "top_k was 50, is 7;" in refused(train_command.main, *arguments, "--top-k", 7)
    (unfinished / "checkpoint.safetensors").write_bytes(files["checkpoint.safetensors"])
    assert {file.name: file.read_bytes() for file in unfinished.iterdir()} == files


def test_a_damaged_state_is_an_error_of_one_line(command, refused, arguments, unfinished):
    file = unfinished / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    complaint = "checkpoint.safetensors is damaged .*; delete it"
    assert re.search(complaint, refused(train_command.main, *arguments))
    file.unlink()
    assert command(train_command.main, *arguments)[0] == 0


def test_a_finished_run_is_not_repeated(command, refused, arguments, tmp_path):
    out = tmp_path / "out"
    assert command(train_command.main, *arguments, "--no-save-model")[0] == 0
    assert [file.name for file in out.iterdir()] == ["result.json"]
    before = (out / "result.json").read_bytes()
    code, printed, _ = command(train_command.main, *arguments)
    assert code == 0 and "finished already" in printed and "\n1e-4  " in printed
    for steps, complaint in (
        (3, "samples was 4, is 3;"),
        (5, "without --keep-state, so it cannot go on; name another"),
    ):
        assert complaint in refused(train_command.main, *arguments, "--samples", steps)
    assert (out / "result.json").read_bytes() == before
    assert command(train_command.main, *arguments, "--samples", 5, "--overwrite")[0] == 0
    assert (out / "model.safetensors").exists() and (out / "result.json").read_bytes() != before


def test_a_sweep_does_only_what_is_missing(command, refused, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.report.plots.plot_all", lambda *_: [])
    monkeypatch.setattr("train.run.jobs.write_report", lambda *_: "report.html")
    out = tmp_path / "out"
    assert command(train_command.main, *arguments, "--lr", "1e-3", "--out", out / "lr-1e-3")[0] == 0
    before = (out / "lr-1e-3" / "result.json").read_bytes()
    # 1e30 diverges; that is an outcome too, and not to be had again.
    code, printed, err = command(sweep.main, *arguments, "--lrs", "1e-3", "1e30")
    assert code == 0 and "learning rate 1e-3, seed 0 (1 of 2) is finished already" in printed, err
    assert "learning rate 1e30, seed 0 (2 of 2)\n" in printed and " diverged  " in printed
    assert (out / "lr-1e-3" / "result.json").read_bytes() == before

    def never(*args):
        raise AssertionError("the base model is evaluated for nothing")

    with monkeypatch.context() as patched:
        patched.setattr("evaluate.baseline.Baseline.write", never)
        code, printed, err = command(sweep.main, *arguments, "--lrs", "1e30")
    assert code == 0 and "\n1e-3  " in printed and " diverged  " in printed, err  # the other rate is in the table
    # With more seeds, the run that is there keeps its name and is not made twice.
    code, printed, err = command(sweep.main, *arguments, "--lrs", "1e-3", "--seeds", 2)
    assert code == 0 and "seed 0 (1 of 2) is finished already" in printed, err
    assert sorted(p.name for p in out.glob("lr-*")) == ["lr-1e-3", "lr-1e-3-seed1", "lr-1e30"]
    result = read_result(out / "lr-1e-3-seed1")
    assert result["seed"] == 1 and result["settings"]["seed"] == 0  # of the batches, of the writing
    # Runs of other settings do not belong in the same table.
    assert "seq_len was 16, is 15;" in refused(sweep.main, *arguments, "--lrs", "1e-2", "--seq-len", 15)
    assert not (out / "lr-1e-2").exists()


def fill(folder, *names):
    """Makes files in `folder`, the results and run.json among them as runs write them."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        lr = {"lr": float(file.parent.name[3:7]) if file.parent.match("lr-1*") else 1e-4}
        file.write_text(json.dumps({"result.json": {"identity": lr}}.get(file.name, lr | {"model_sha256": "x"})))
        if file.name == CARD_FILE:
            file.write_text(FIRST_WORDS)


def files_in(folder):
    """{path: content} of all files in `folder`, also behind links."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


STRANGE = (".DS_Store", "nohup.out", "notes.txt", ".tmp-notes", ".tmpAbCdEf", ".tmp-7-result.json", "README.md")


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_other_files_are_no_reason_for_anything(command, arguments, tmp_path, kind):
    """Beside a new run, an unfinished one, a finished one, and one that is overwritten: they stay, and nothing stops."""
    out, main = tmp_path / "out", {"run": train_command.main, "sweep": sweep.main}[kind]
    (out / ".tmp-mine").mkdir(parents=True)
    for name in (*STRANGE, ".tmp-mine/x"):
        (out / name).write_text("mine")
    flags = (*arguments, *(["--lrs", "1e-4"] if kind == "sweep" else []), "--no-save-model")
    for more in ((), (), ("--overwrite",)):
        code, printed, err = command(main, *flags, *more)
        assert code == 0 and ("finished already" in printed) == (more == () and (out / "seen").exists()), err
        (out / "seen").touch()
        assert all((out / name).read_text() == "mine" for name in (*STRANGE, ".tmp-mine/x"))


def test_a_card_of_somebody_is_not_written_over(command, arguments, tmp_path):
    fill(tmp_path / "out", "notes.txt")
    (tmp_path / "out" / "README.md").write_text("my own words")
    for more in ((), ("--overwrite",)):
        assert command(train_command.main, *arguments, *more)[0] == 0
        assert (tmp_path / "out" / "README.md").read_text() == "my own words"


@pytest.mark.parametrize(
    "name", ["model.safetensors", "result.json", "run.json", "best/config.json", "lr-1e-4/run.json"]
)
def test_what_is_no_run_and_would_be_replaced_is_refused(refused, arguments, tmp_path, name):
    out = tmp_path / "out"
    fill(out, "notes.txt", name)
    if name[:3] != "lr-":
        (out / name).write_text('{"accuracy": 0.5}')
    before = files_in(out)
    for more in ((), ("--overwrite",)):
        assert "is already in use" in refused(train_command.main, *arguments, *more)
        assert files_in(out) == before
    (out / name).unlink()
    fill(out, "table.md")
    assert "is already in use (table.md)" in refused(sweep.main, *arguments, "--lrs", "1e-4", "--overwrite")


def test_overwrite_deletes_what_runs_wrote_and_nothing_else(tmp_path):
    out, archive = tmp_path / "out", tmp_path / "archive"
    fill(archive, "result.json", *MODEL_FILES)
    fill(out, "table.md", "report.html", "clock.png", "mine.txt", "ratings.jsonl", "lr-1e-4/checkpoint.safetensors")
    fill(out, "lr-1e-4/run.json", "lr-1e-5/result.json", "lr-1e-5/notes.txt", "lr-1e-5/README.md", "lr-1e-5/best/x.txt")
    fill(out, *(f"lr-1e-5/{best}{name}" for name in MODEL_FILES for best in ("", "best/")), "lr-1e-5/best/README.md")
    fill(
        out,
        "lr-mine/result.json",
        "lr-1e-5 copy/result.json",
        "lr-other/model.safetensors",
        "lr-other/result.json",
        "lr-1e-4/.tmp-x/y",
    )
    fill(
        out,
        "best/README.md",
        "best/model.safetensors",
        "lr-1e-4/.tmp-result.json-abcd_123/result.json",
        "lr-1e-3/run.json",
    )
    (out / "lr-other" / "result.json").write_text("[1e-4]")  # of another program
    (out / "lr-1e-3" / "best").symlink_to(archive)
    (out / "lr-best").symlink_to(archive)
    before = files_in(archive)
    delete_runs(out, runs_in(out, tmp_path))
    left = {name for name in files_in(out) if name[:7] != "lr-best"}
    assert left == {
        "mine.txt", "ratings.jsonl", "lr-1e-5/notes.txt", "lr-1e-5/best/x.txt", "lr-mine/result.json",
        "lr-other/model.safetensors", "lr-other/result.json", "lr-1e-4/.tmp-x/y", "lr-1e-5 copy/result.json",
    }  # fmt: skip
    assert files_in(archive) == before and (out / "lr-best").is_symlink() and (out / "lr-1e-3" / "best").is_symlink()


def test_overwrite_touches_nothing_before_all_is_checked(command, refused, arguments, tmp_path):
    """One of the runs is a link, or in use: the others are still there."""
    out, flags = tmp_path / "out", (*arguments, "--lrs", "1e-3", "1e-4", "--no-save-model")
    assert command(sweep.main, *flags)[0] == 0
    (out / "lr-1e-4").rename(tmp_path / "kept")
    (out / "lr-1e-4").symlink_to(tmp_path / "kept")
    before = files_in(out)
    assert "lr-1e-4 is a link, and nothing is written through one" in refused(sweep.main, *flags, "--overwrite")
    assert files_in(out) == before
    assert "finished already" in command(sweep.main, *flags)[1]  # it may be read


@pytest.mark.parametrize("inside", [".", "lr-1e-4", "best", "lr-1e-4/best"])
def test_overwrite_spares_the_model_that_it_will_read(inside, tmp_path):
    runs = tmp_path / "runs"
    fill(runs / inside, "model.safetensors")
    fill(runs, "lr-1e-4/result.json")
    with pytest.raises(ValueError, match="would delete the model"):
        runs_in(runs, runs / "x" / ".." / inside)
    assert (runs / inside / "model.safetensors").exists()


def test_a_run_and_a_sweep_do_not_share_a_folder(command, refused, arguments, tmp_path):
    out = tmp_path / "out"
    assert command(train_command.main, *arguments, "--no-save-model")[0] == 0
    before = files_in(out)
    assert "already in use by a run;" in refused(sweep.main, *arguments, "--lrs", "1e-3")
    fill(tmp_path / "sweep", "lr-1e-3/run.json")
    assert "by several runs;" in refused(train_command.main, *arguments, "--out", tmp_path / "sweep")
    assert files_in(out) == before


def test_too_small_a_disk_is_found_before_anything_is_written(
    command, refused, arguments, model_folder, tmp_path, monkeypatch
):
    parameters = sum(p.numel() for p in load_pretrained(model_folder).parameters())
    usage = type(shutil.disk_usage(tmp_path))
    for flags, bytes_each in (((), 2 * 12 + 4), (("--no-save-model",), 2 * 12)):
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, bytes_each * parameters - 1))
        err = refused(train_command.main, *arguments, *flags)
        assert re.search(r"has 0\.0 GB free, .* need 0\.0 GB; make room", err) and not (tmp_path / "out").exists()
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, 24 * parameters))
    assert command(train_command.main, *arguments, "--no-save-model")[0] == 0


# Who has a run


def test_a_run_that_another_process_has(command, refused, arguments, tmp_path, monkeypatch):
    """Held by another process: `train` waits for it, and does the run itself once the holder is gone."""
    pytest.importorskip("fcntl")
    out = tmp_path / "out"
    out.mkdir()
    holds = "import pathlib, sys; from train.run.lock import locked\n"
    holds += "with locked(pathlib.Path(sys.argv[1])): print(flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", holds, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    who = f"another process is using {out} (pid {holder.pid} on {platform.node()}); "
    try:
        holder.stdout.readline()
        with locked(out) as ours:
            assert not ours
        assert who in refused(train_command.main, *arguments, "--overwrite")
        waited = []

        def wait(polls, what):
            waited.append(what)
            holder.kill()
            holder.wait()

        monkeypatch.setattr("train.run.folder.wait", wait)  # before the run is written down
        code, printed, _ = command(train_command.main, *arguments)
        assert code == 0 and waited[0] == f"{out} (pid {holder.pid} on {platform.node()})" and "1e-4 done in" in printed
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    with locked(out) as ours:
        assert ours and (out / "run.lock").exists()
    assert not (out / "run.lock").exists()


def test_a_lock_on_a_deleted_file_is_no_claim(tmp_path, monkeypatch):
    """The one before deletes the file between our opening and our locking it: what we hold then nobody else sees."""
    import train.run.lock

    original, files = train.run.lock.lock, []

    def late(opened, file):
        if not files:
            (tmp_path / "run.lock").unlink()
        files.append(opened)
        original(opened, file)

    monkeypatch.setattr(train.run.lock, "lock", late)
    with locked(tmp_path) as ours:
        assert ours and len(files) == 2 and (tmp_path / "run.lock").exists()
    monkeypatch.setattr(train.run.lock, "lock", Mock(side_effect=OSError("the disk is gone")))
    with pytest.raises(OSError, match="is gone"), locked(tmp_path):
        pass


# What is no number


def test_a_gradient_that_is_no_number_stops_the_loop_before_the_step(model_folder, text_file):
    """The loss is finite, one number of one gradient is not."""
    tokens = torch.tensor(load_tokenizer(model_folder).encode_ordinary(text_file.read_text(encoding="utf-8")))
    model = load_pretrained(model_folder)
    calls = []

    def gradients(*batch):
        loss = plain_gradients(*batch)
        calls.append(loss)
        if len(calls) == 3:
            model.h[1].mlp.c_fc.weight.grad[3, 2] = math.inf
        return loss

    losses, settings = [], Training(9, batch_size=2, seq_len=8)
    with pytest.raises(Diverged, match="gradient"):
        for loss in finetune(model, tokens, AdamW(model.parameters(), 1e-3), settings, gradients):
            losses.append(loss)
    assert losses == calls[:2] and len(calls) == 3 and all(map(math.isfinite, calls))
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_diverged_run_says_where_and_of_what(command, arguments, tmp_path, monkeypatch, what):
    def gradients(model, *batch):
        loss = plain_gradients(model, *batch)
        calls.append(loss)
        if len(calls) == 3 and what == "loss":
            return math.nan
        if len(calls) == 3:
            model.ln_f.bias.grad[0] = math.nan
        return loss

    calls = []
    monkeypatch.setattr("train.run.run.fast_gradients", lambda *_: gradients)
    monkeypatch.setattr("train.run.run.MIN_STEPS", 1)
    code, printed, _ = command(train_command.main, *arguments, "--dtype", "float32")
    assert code == 0 and re.search(r"^1e-4 .* diverged ", printed, re.MULTILINE)
    assert f"at 1e-4 (float32 on cpu) the {what} after step 2 is not finite: diverged" in printed
    result = read_result(tmp_path / "out")
    assert result["diverged"] == {"sample": 2, "what": what, "lr": 1e-4, "dtype": "float32", "device": "cpu"}
    assert result["after"] is None and len(result["train_loss"]) == 2
    assert result["best_step"] == 2 and "weights after step 2," in (tmp_path / "out/best/README.md").read_text()
    code, printed, _ = command(train_command.main, *arguments, "--dtype", "float32")
    assert code == 0 and "finished already" in printed and len(calls) == 3
