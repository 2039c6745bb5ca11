"""Disks, links and second starts as people have them: nothing is lost, nothing is mixed, nobody is let in."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import without_seconds
from safetensors.torch import load_file, save_file

import train.__main__ as train_command
import train.pretrain.__main__ as pretrain_command
from data.files import write_text, write_whole
from evaluate.results import read_result
from model.pretrained import read_tensors
from train import sweep
from train.run.lock import locked
from train.run.signals import NAMES, ending_in_one_line

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def arguments(small_run, tmp_path):
    return (*small_run, "--dtype", "float32", "--out", tmp_path / "out")


# Links


@pytest.mark.parametrize(
    "name", ["table.md", "report.html", "learning_rates.png", "lr-1e-4/result.json", "lr-1e-4/README.md"]
)
def test_nothing_is_written_through_a_link(command, arguments, tmp_path, name):
    """Somebody else's sweep folder, in which a file of ours is a link to a file of the reader's."""
    target, flags = tmp_path / "profile", (*arguments, "--lrs", "1e-4")
    target.write_text("mine")
    assert command(sweep.main, *flags)[0] == 0
    file = tmp_path / "out" / name
    file.unlink()
    file.symlink_to(target)
    if file.parent.name == "lr-1e-4":
        (file.parent / "run.json").write_text('{"model_sha256": "x"}')
    command(sweep.main, *flags, *(["--overwrite"] if file.parent.name == "lr-1e-4" else []))
    assert target.read_text() == "mine"


@pytest.mark.parametrize("hard", [False, True])
def test_the_lock_is_no_way_to_another_file(refused, arguments, tmp_path, hard):
    (tmp_path / "profile").write_text("pid files are mine")  # as a lock begins
    (tmp_path / "out").mkdir()
    (os.link if hard else os.symlink)(tmp_path / "profile", tmp_path / "out" / "run.lock")
    assert "run.lock is " in refused(train_command.main, *arguments)
    assert (tmp_path / "profile").read_text() == "pid files are mine" and (tmp_path / "out" / "run.lock").exists()


def test_a_file_is_replaced_by_a_whole_one_or_not_at_all(tmp_path):
    file = tmp_path / "page.html"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_whole(file, lambda part: (part.write_text("half"), 1 / 0))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"] and file.read_text() == "old"
    write_text(file, "half \ud800 and é")
    assert file.read_text(encoding="utf-8") == "half ? and é"


# Two starts at once


@pytest.mark.parametrize("main", [train_command.main, sweep.main])
def test_a_second_start_with_other_settings_is_refused_before_anything_is_measured(
    command, refused, arguments, tmp_path, monkeypatch, main
):
    """The second one comes while the first one measures the base model, before its first run has begun."""
    from evaluate.baseline import Baseline

    evaluate, said = Baseline.write, []

    def write(baseline, *rest):
        if not said:
            said.append("")
            said[0] = refused(main, *arguments, "--batch-size", 3)
        return evaluate(baseline, *rest)

    monkeypatch.setattr(Baseline, "write", write)
    flags = ("--lrs", "1e-3", "1e-4") if main is sweep.main else ()
    assert command(main, *arguments, *flags)[0] == 0
    assert "batch_size was 4, is 3;" in said[0]


def test_what_another_start_has_thrown_away_is_not_mixed_in(command, refused, arguments, tmp_path, monkeypatch):
    """While the first one measures the base model, a second one starts anew with other settings."""
    from evaluate.baseline import Baseline

    evaluate, done = Baseline.write, []

    def write(baseline, *rest):
        if not done:
            done.append(1)
            assert command(sweep.main, *arguments, "--lrs", "1e-3", "--overwrite", "--batch-size", 3)[0] == 0
        return evaluate(baseline, *rest)

    monkeypatch.setattr(Baseline, "write", write)
    assert "has started" in refused(sweep.main, *arguments, "--lrs", "1e-4")
    assert [path.name for path in (tmp_path / "out").glob("lr-*")] == ["lr-1e-3"]


# Finished means finished


def test_a_run_that_was_killed_after_its_result_is_completed(command, arguments, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert command(train_command.main, *arguments)[0] == 0
    whole = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    result = without_seconds(out)
    with monkeypatch.context() as patched:
        patched.setattr("train.run.outcome.tidy_up", lambda *_: sys.exit(137))
        assert command(train_command.main, *arguments, "--overwrite", "--keep-state")[0] == 137
    left = {path.name for path in out.iterdir() if path.is_file()}
    assert left == {*whole, "checkpoint.safetensors", "run.json"} - {"README.md"}
    code, printed, err = command(train_command.main, *arguments)
    assert code == 0 and "finished already" in printed, err
    assert {path.name for path in out.iterdir() if path.is_file()} == {*whole}
    cards = (re.sub(rb"\d\.\d \|\n", b"", card) for card in ((out / "README.md").read_bytes(), whole["README.md"]))
    assert without_seconds(out) == result and next(cards) == next(cards)  # without the minutes


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_the_signals_of_batch_systems_end_it_as_sigterm_does(name, capsys):
    number = getattr(signal, name)
    with pytest.raises(SystemExit) as end, ending_in_one_line():
        os.kill(os.getpid(), number)
    assert end.value.code == 128 + number and f"stopped by {NAMES[number]}\n" in capsys.readouterr().err


# Disks


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_disk_without_fsync_keeps_the_run(command, arguments, tmp_path, monkeypatch, number):
    def fsync(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    code, printed, err = command(train_command.main, *arguments)
    assert code == 0 and "warning" not in printed + err, err
    assert (tmp_path / "out" / "result.json").exists()
    number = errno.EIO  # a broken disk is an error
    with pytest.raises(OSError, match="Input/output"):
        write_text(tmp_path / "file", "x")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_disk_without_locks_is_a_note(command, arguments, tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def lockf(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    code, printed, err = command(train_command.main, *arguments)
    assert code == 0 and "has no locks" in printed and read_result(tmp_path / "out")["after"], err


def test_a_disk_that_maps_no_file_into_memory_is_read(model_folder, tmp_path, monkeypatch):
    def no_map(*_, **__):
        raise OSError("No such device (os error 19)")

    tensors = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}
    save_file(tensors, tmp_path / "w.safetensors", {"info": "7"})
    expected = read_tensors(tmp_path / "w.safetensors")
    monkeypatch.setattr("model.pretrained.safe_open", no_map)
    found, metadata = read_tensors(tmp_path / "w.safetensors")
    assert metadata == expected[1] == {"info": "7"} and found.keys() == tensors.keys() == expected[0].keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_names_the_file_and_says_how_to_go_on(refused, arguments, tmp_path, monkeypatch):
    def write(folder, result):
        write_whole(folder / "result.json", lambda part: part.symlink_to("/dev/full") or part.write_text("x"))

    monkeypatch.setattr("train.run.outcome.write_result", write)
    said = refused(train_command.main, *arguments)
    assert (
        f"the disk is full: {tmp_path / 'out' / 'result.json'} was not written; make room, and the same command" in said
    )


def test_the_home_folder_is_known_where_no_shell_has_put_it(command, arguments, tmp_path, monkeypatch, model_folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my model").symlink_to(model_folder)
    flags = ("--model", "~/my model", "--out=~/runs/mine", "--no-save-model")
    code, _, err = command(train_command.main, *arguments, *flags)
    assert code == 0 and (tmp_path / "runs" / "mine" / "result.json").exists(), err


def test_locks_hold_between_processes(tmp_path):
    pytest.importorskip("fcntl")
    program = (
        "import sys, pathlib; from train.run.lock import locked\nwith locked(pathlib.Path(sys.argv[1])) as o: print(o)"
    )
    with locked(tmp_path) as ours:
        found = subprocess.run([sys.executable, "-c", program, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert ours and found.stdout == "False\n"


# Models and texts with odd names and weights


def test_huge_weights_are_refused_before_the_training(refused, arguments, model_folder, tmp_path):
    """Finite as they are, they make losses that no result file can hold."""
    huge = shutil.copytree(model_folder, tmp_path / "huge")
    weights = load_file(huge / "model.safetensors")
    larger = {name: weights[name] * factor for name, factor in (("wte.weight", 1e10), ("ln_f.weight", 1e30))}
    save_file(weights | larger, huge / "model.safetensors", {"format": "pt"})
    assert "gives losses that are not finite numbers" in refused(train_command.main, *arguments, "--model", huge)


def test_a_model_is_known_by_its_weights(command, arguments, model_folder, tmp_path):
    for folder in (model_folder, f"{model_folder}/", shutil.copytree(model_folder, tmp_path / "copy")):
        code, printed, err = command(train_command.main, *arguments, "--model", folder, "--no-save-model")
        assert code == 0 and ("finished already" in printed) == (folder is not model_folder), err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have only names in UTF-8")
def test_names_that_are_not_utf8_are_shown_as_far_as_possible(command, arguments, model_folder, text_file, tmp_path):
    model, text = tmp_path / "mod\udce9le\x1b", tmp_path / "t\udce9xt.txt"
    model.symlink_to(model_folder)
    shutil.copyfile(text_file, text)
    out, flags = tmp_path / "out", ("--model", model, "--text", text, "--lrs", "1e-4", "--no-save-model")
    code, printed, err = command(sweep.main, *arguments, *flags)
    assert code == 0 and "\x1b" not in printed + err, err
    assert "t?xt" in (out / "report.html").read_text(encoding="utf-8") and (out / "learning_rates.png").stat().st_size


def test_a_pretraining_keeps_to_itself(refused, model_folder, tmp_path):
    """Somebody's model is not replaced, and a second start waits for nobody: it is refused."""
    pytest.importorskip("fcntl")
    (tmp_path / "a.txt").write_text("a ship and a sea " * 400)
    theirs = shutil.copytree(model_folder, tmp_path / "theirs")
    assert "is already in use" in refused(pretrain_command.main, "--corpus", tmp_path, "--out", theirs)
    program = "import pathlib, sys; from train.run.lock import locked\n"
    program += "with locked(pathlib.Path(sys.argv[1])): print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program, tmp_path / "out" / "work"], cwd=ROOT, **pipes) as holder:
        holder.stdout.readline()
        assert "another process is using" in refused(
            pretrain_command.main, "--corpus", tmp_path, "--out", tmp_path / "out"
        )
        holder.kill()
