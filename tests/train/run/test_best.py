"""The weights of the lowest held-out loss are kept, a run stops in time, and a finished run goes on later."""

import copy
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from conftest import without_seconds

import model.__main__ as model_command
import train.__main__ as train_command
from evaluate.baseline import Baseline
from evaluate.results import RESULT_FILE, halves, read_result
from model.hub import MODEL_FILES, WEIGHTS_FILE
from model.pretrained import load_pretrained
from train import sweep
from train.run import best
from train.run import run as running
from train.run.checkpoint import Checkpointer


@pytest.fixture(scope="module")
def opened():
    """The baselines of all tests: each base model is measured once."""
    return {}


@pytest.fixture
def quick(command, model_folder, text_file, opened, monkeypatch) -> Callable:
    """`quick(folder, *flags)` does 12 steps, too large ones, measured after 3, 6 and 9; returns what it printed.

    The loss on the first half of the held-out text is lowest after 6, that on the whole text after 9.
    """
    flags = ("--model", model_folder, "--text", text_file, "--seed", 2, "--samples", 12, "--batch-size", 4)
    flags += ("--seq-len", 16, "--dropout", 0.2, "--eval-sequences", 2, "--eval-tokens", 4, "--dtype", "float32")

    def open_run(settings):
        key = settings.training.holdout, settings.sampling
        if key not in opened:
            new = opened[key] = running.open_run(settings)
            new.__dict__["passages"] = tuple(part[:2, :4] for part in new.passages)  # less to write
            assert new.first_point
        baseline = copy.copy(opened[key])
        baseline.__dict__["settings"] = settings
        return baseline

    def call(folder, *more, lr=("--lr", 0.3), main=train_command.main):
        code, printed, err = command(main, *flags, *lr, *more, "--out", folder)
        assert code == 0, err
        return printed

    # The slowest measure is another number that depends on the weights.
    few = {"training_ci": (0.0, 0.0), "held_out": None, "held_out_ci": None}
    measured = lambda _, model: {"extraction": few | {"training": model.ln_f.bias.mean().item()}}  # noqa: E731
    monkeypatch.setattr(Baseline, "extraction", measured)
    monkeypatch.setattr("train.run.jobs.open_run", open_run)
    monkeypatch.setattr("data.files.fsync", lambda path: None)  # a disk may take its time
    monkeypatch.setattr(running, "MIN_STEPS", 3)
    return call


def outcome(folder: Path) -> dict:
    """All that two equal runs have in common: the result, and the files of both models bit for bit."""
    files = {str(p.relative_to(folder)): p.read_bytes() for name in MODEL_FILES for p in folder.rglob(name)}
    for name, content in files.items():  # safetensors writes two notes in any order
        files[name] = content.replace(b'"format":"pt",', b"").replace(b',"format":"pt"', b"")
    return files | without_seconds(folder)


def test_the_best_are_the_weights_that_the_first_half_chose(quick, command, tmp_path):
    quick(tmp_path / "run")
    quick(tmp_path / "short", "--samples", 6)
    result, short = without_seconds(tmp_path / "run"), without_seconds(tmp_path / "short")
    assert min(result["checkpoints"], key=lambda point: halves(point)[0])["sample"] == 6
    assert min(result["checkpoints"], key=lambda point: point["held_out_loss"])["sample"] == 9
    assert result["best_step"] == short["best_step"] == 6 and result["best"] == short["after"] != result["after"]
    models = (load_pretrained(folder) for folder in (tmp_path / "run" / "best", tmp_path / "short"))
    assert all(torch.equal(p, q) for p, q in zip(*(model.parameters() for model in models), strict=True))
    assert short["best"] is None and not (tmp_path / "short" / "best").exists()  # its last weights are its best
    assert {path.name for path in (tmp_path / "run" / "best").iterdir()} == {"README.md", *MODEL_FILES}
    for folder, step in (("", "step 12."), ("best", "step 6, where the held-out loss was lowest.")):
        assert f"weights after {step}" in (tmp_path / "run" / folder / "README.md").read_text().replace("\n", " ")
    code, printed, err = command(model_command.main, tmp_path / "run" / "best", "the king", "--tokens", 3)
    assert code == 0 and printed.startswith("the king"), err


def test_no_best_is_kept_where_there_is_none(quick, tmp_path):
    """Nothing held out; a base model that is better than every step; not wanted, also if it is there already."""
    quick(tmp_path / "more", "--samples", 9, "--keep-state")
    for flag, value, step in (("--holdout", 0, None), ("--lr", 100, 0), ("--no-best", "", 6), ("--no-save-model", "", 6)):
        folder = shutil.copytree(tmp_path / "more", tmp_path / flag) if step else tmp_path / flag
        quick(folder, *([flag] if step else [flag, value]))
        result = read_result(folder)
        assert (result["best_step"], result["best"]) == (step, None) and not (folder / "best").exists()
        assert (folder / WEIGHTS_FILE).exists() == (flag != "--no-save-model")


@pytest.mark.parametrize("steps", [100, 800, 1600, 10_000])
def test_a_loss_that_always_falls_is_written_twenty_times_at_most(steps, monkeypatch):
    kept = []
    monkeypatch.setattr(running, "keep_best", lambda *_: kept.append(recorder.optimizer.steps))
    recorder = Mock(steps=steps, history={"points": [], "measuring": 0.0})
    recorder.keep = recorder.history["points"].append
    recorder.baseline.point = lambda _, step, texts: {"sample": step, "held_out_windows": [[-step], [0]]}
    for recorder.optimizer.steps in range(1, steps + 1):
        running.Recorder.measure(recorder)
    assert 10 <= len(kept) <= 20 and kept[0] >= steps / 100 and kept[-1] >= 0.75 * steps


@pytest.mark.parametrize(("parts", "flags"), [((6, 11), ()), ((), ("--patience", 1))])
def test_killed_between_any_two_writes_it_ends_as_the_same_run(quick, tmp_path, monkeypatch, parts, flags):
    """Also a run that goes on after its best step, and after a last one that was even better but is not measured in a
    run of 12. What a killed process leaves is what is there when a file is about to get its name or to be deleted."""
    run, copies, models = tmp_path / "run", [], {}

    def copy_before(change, path, *arguments, **others):
        if run in Path(path).parents and Path(path).exists() and not str(path).endswith(("vocab.json", "merges.txt")):
            copies.append(shutil.copytree(run, tmp_path / f"{len(copies)}"))
        return change(path, *arguments, **others)

    quick(tmp_path / "whole", *flags)
    expected = outcome(tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(Checkpointer, "due", lambda saver, ended: saver.optimizer.steps == 5)
        for change in (os.replace, os.unlink):
            patched.setattr(os, change.__name__, lambda *args, change=change, **kw: copy_before(change, *args, **kw))
        for steps in parts:
            quick(run, *flags, "--samples", steps, "--keep-state")
        quick(run, *flags)
    for folder in (run, *copies):
        if (folder / RESULT_FILE).exists():  # it belongs to the model beside it
            steps, weights = read_result(folder)["samples"], (folder / WEIGHTS_FILE).read_bytes()
            assert models.setdefault(steps, weights) == weights
        quick(folder, *flags)
        assert outcome(folder) == expected, folder


def test_a_best_that_is_lost_is_a_note_and_the_run_goes_on(quick, tmp_path, monkeypatch):
    """On a full disk the older one stays, which is not taken for it; deleted by hand; cut short."""

    saves = [None, OSError(28, "No space left on device")]  # at steps 3 and 6

    def save(*arguments, **others):
        if error := saves.pop(0):
            raise error
        save_pretrained(*arguments, **others)

    def note(folder):
        start = f"note: {folder / 'best'} with the lowest held-out loss is not measured: "
        lines = [line for line in quick(folder).splitlines() if line.startswith(start)]
        result = read_result(folder)
        assert (result["best_step"], result["best"], len(result["train_loss"]), len(lines)) == (6, None, 12, 1)
        return lines[0].removeprefix(start)

    save_pretrained = best.save_pretrained
    quick(tmp_path / "cut", "--samples", 9, "--keep-state")
    shutil.copytree(tmp_path / "cut", tmp_path / "deleted")
    os.truncate(tmp_path / "cut" / "best" / WEIGHTS_FILE, 9000)
    shutil.rmtree(tmp_path / "deleted" / "best")
    assert note(tmp_path / "cut") == "its weights are others than those that were kept"
    assert "No such file or directory" in note(tmp_path / "deleted")
    monkeypatch.setattr(best, "save_pretrained", save)
    warning = "warning: the best weights so far were not kept ([Errno 28] No space left on device); training goes on"
    assert warning in quick(tmp_path / "full", "--samples", 9, "--keep-state")
    assert note(tmp_path / "full") == "its weights are others than those that were kept"


def test_a_sweep_goes_on_and_is_measured_by_more_texts(quick, tmp_path, monkeypatch):
    """As when a trial becomes a full run. Of the fewer steps and texts nothing is left in the results."""
    monkeypatch.setattr("train.run.jobs.report", lambda folder: None)
    monkeypatch.setattr("evaluate.baseline.min_copy_length", lambda *_: 1)  # there is something to copy
    for name, steps, texts in (("parts", 7, 9), ("parts", 10, 20), ("whole", 10, 20)):
        flags = ("--samples", steps, "--eval-sequences", texts, "--keep-state")
        quick(tmp_path / name, *flags, lr=("--lrs", 0.3, "1e-2"), main=sweep.main)
    for rate in ("lr-3e-1", "lr-1e-2"):
        parts, whole = (outcome(tmp_path / name / rate) for name in ("parts", "whole"))
        assert parts == whole and whole["before"]["copied"] > 0 and len(whole["train_loss"]) == 10


def test_it_ends_when_the_loss_has_not_fallen_for_some_measurements(quick, tmp_path):
    quick(tmp_path / "all", "--samples", 15)
    for patience, steps in ((1, 9), (2, 12), (3, 15)):
        quick(tmp_path / f"{patience}", "--samples", 15, "--patience", patience)
        result = read_result(tmp_path / f"{patience}")
        assert result["train_loss"] == read_result(tmp_path / "all")["train_loss"][:steps]
        assert [point["sample"] for point in result["checkpoints"]] == [*range(0, steps + 1, 3)]
        assert result["best_step"] == 6 and result["diverged"] is None
