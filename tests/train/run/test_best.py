"""The weights of the lowest held-out loss are kept, a run stops in time, and a finished run goes on later."""

import copy
import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import without_seconds
from safetensors import safe_open

import model.__main__ as model_command
import train.__main__ as train_command
from evaluate.baseline import Baseline
from evaluate.results import RESULT_FILE, read_result
from model.hub import MODEL_FILES, WEIGHTS_FILE
from model.pretrained import load_pretrained, save_pretrained
from train import sweep
from train.run import run as running
from train.run.checkpoint import CHECKPOINT_FILE, Checkpointer


TOKENIZER = ("vocab.json", "merges.txt")


@pytest.fixture(scope="module")
def opened():
    """The baselines of all tests by their settings: the base model is measured once."""
    return {}


@pytest.fixture
def quick(command, model_folder, text_file, opened, monkeypatch) -> Callable:
    """`quick(folder, *flags)` does 12 steps, too large ones, measured after 3, 6 and 9; returns what it printed.

    The loss on the first half of the held-out text is lowest after 6, that on the whole text after 9.
    """
    flags = ("--model", model_folder, "--text", text_file, "--seed", 2, "--samples", 12, "--batch-size", 4)
    flags += ("--seq-len", 16, "--dropout", 0.2, "--eval-sequences", 2, "--eval-tokens", 4, "--dtype", "float32")

    def open_run(settings):
        training = dataclasses.replace(settings.training, samples=1, patience=None)
        key = dataclasses.replace(settings, training=training, save_model=True, keep_best=True, keep_state=False)
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
    few = {"training": 0.0, "training_ci": (0.0, 0.0), "held_out": None, "held_out_ci": None}
    monkeypatch.setattr(Baseline, "extraction_of", lambda _, model: few | {"training": model.ln_f.bias.mean().item()})
    monkeypatch.setattr("train.run.jobs.open_run", open_run)
    monkeypatch.setattr("data.files.fsync", lambda path: None)  # a disk may take its time
    monkeypatch.setattr(running, "MIN_STEPS", 3)
    return call


def outcome(folder: Path) -> dict:
    """All that two equal runs have in common: the result, and the files of both models bit for bit."""
    models = {path: path.read_bytes() for name in MODEL_FILES for path in folder.rglob(name)}
    for path in folder.rglob(WEIGHTS_FILE):  # the order of what safetensors writes into the header is chance
        with safe_open(path, "np") as opened:
            models[path] = {name: opened.get_tensor(name).tobytes() for name in opened.keys()} | opened.metadata()
    return {str(path.relative_to(folder)): content for path, content in models.items()} | without_seconds(folder)


# The best


def test_the_best_are_the_weights_that_the_first_half_chose(quick, command, tmp_path):
    quick(tmp_path / "run")
    quick(tmp_path / "short", "--samples", 6)
    result, short = without_seconds(tmp_path / "run"), without_seconds(tmp_path / "short")
    halves = {point["sample"]: point["held_out_halves"] for point in result["checkpoints"]}
    assert min(halves, key=lambda step: halves[step][0]) == 6 and halves[9][1] < halves[6][1]
    assert min(result["held_out_loss"], key=lambda point: point[1])[0] == 9
    assert result["best_step"] == short["best_step"] == 6 and short["best"] is None
    assert result["best"] == short["after"] != result["after"]
    best, expected = (load_pretrained(folder) for folder in (tmp_path / "run" / "best", tmp_path / "short"))
    assert all(torch.equal(p, q) for p, q in zip(best.parameters(), expected.parameters(), strict=True))
    assert not (tmp_path / "short" / "best").exists()  # its last weights are its best
    assert sorted(path.name for path in (tmp_path / "run" / "best").iterdir()) == sorted(("README.md", *MODEL_FILES))
    for folder, step in (("", "step 12."), ("best", "step 6, where the held-out loss was lowest.")):
        assert f"weights after {step}" in (tmp_path / "run" / folder / "README.md").read_text().replace("\n", " ")
    code, printed, err = command(model_command.main, tmp_path / "run" / "best", "the king", "--tokens", 3)
    assert code == 0 and printed.startswith("the king"), err


@pytest.mark.parametrize(
    ("flags", "step"),
    [
        (("--holdout", 0), None),
        (("--lr", 1), 0),  # the base model is better than every step
        (("--no-best",), 6),
        (("--no-save-model",), 6),
    ],
)
def test_no_best_is_kept_where_there_is_none(quick, tmp_path, flags, step):
    if step:  # also one that goes on and had more
        quick(tmp_path, "--samples", 9, "--keep-state")
    quick(tmp_path, *flags)
    result = without_seconds(tmp_path)
    assert (result["best_step"], result["best"]) == (step, None) and not (tmp_path / "best").exists()
    assert (tmp_path / WEIGHTS_FILE).exists() == ("--no-save-model" not in flags)


@pytest.mark.parametrize("steps", [100, 800, 1600, 10_000])
def test_a_loss_that_always_falls_is_written_twenty_times_at_most(steps, monkeypatch):
    kept, history = [], {"points": [], "measuring": 0.0}
    monkeypatch.setattr(running, "keep_best", lambda folder, model, step, baseline: kept.append(step))
    baseline = SimpleNamespace(point=lambda _, step, texts: {"sample": step, "held_out_halves": (-step, 0)})
    baseline.is_finite = lambda model: True
    recorder = SimpleNamespace(baseline=baseline, steps=steps, history=history, keep=history["points"].append)
    recorder.progress = SimpleNamespace(measuring=lambda: None, measured=lambda point: None)
    recorder.best, recorder.keeps_best, recorder.model = None, True, None
    for step in range(1, steps + 1):
        recorder.optimizer = SimpleNamespace(steps=step)
        running.Recorder.measure(recorder)
    assert 10 <= len(kept) <= 20 and kept[0] >= steps / 100 and kept[-1] >= 0.75 * steps


# Killed, and going on with more steps


@pytest.fixture
def snapshots(tmp_path) -> Callable:
    """`snapshots(folder, monkeypatch)` copies `folder` whenever a file in it is about to get its name or to be deleted:
    that is what a process leaves that is killed there. It returns the list of copies, which grows."""

    def call(folder: Path, monkeypatch) -> list[Path]:
        copies = []
        for name in ("replace", "unlink"):

            def noted(path, *arguments, original=getattr(os, name), **others):
                if folder in Path(path).parents and Path(path).exists() and not str(path).endswith(TOKENIZER):
                    copies.append(shutil.copytree(folder, tmp_path / f"{folder.name}-{len(copies)}"))
                return original(path, *arguments, **others)

            monkeypatch.setattr(os, name, noted)
        return copies

    return call


def test_killed_between_any_two_writes_it_ends_as_the_same_run(quick, snapshots, tmp_path, monkeypatch):
    """A run that goes on twice: after its best step, and after a last one that was even better but is not measured
    in a run of 12."""
    quick(tmp_path / "whole")
    expected = outcome(tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(Checkpointer, "due", lambda saver: saver.optimizer.steps == 5)
        copies = snapshots(tmp_path / "run", patched)
        for steps in (6, 11):
            quick(tmp_path / "run", "--samples", steps, "--keep-state")
        quick(tmp_path / "run")
    models = {}
    for folder in (tmp_path / "run", *copies):
        if (folder / RESULT_FILE).exists():  # at every moment it is that of the model beside it
            steps, weights = read_result(folder)["samples"], (folder / WEIGHTS_FILE).read_bytes()
            assert models.setdefault(steps, weights) == weights
        quick(folder)
        assert outcome(folder) == expected, folder


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (shutil.rmtree, "No such file or directory"),
        (lambda best: os.truncate(best / WEIGHTS_FILE, 9000), "Error while deserializing header: "),
    ],
)
def test_a_damaged_best_is_a_note_and_the_run_goes_on(quick, tmp_path, damage, reason):
    quick(tmp_path, "--samples", 9, "--keep-state")
    damage(tmp_path / "best")
    [note] = [line for line in quick(tmp_path).splitlines() if line.startswith("note: /")]
    assert f"{tmp_path / 'best'} is not measured: the lowest held-out loss was at step 6, but {reason}" in note
    result = without_seconds(tmp_path)
    assert (result["best_step"], result["best"], len(result["train_loss"])) == (6, None, 12)


def test_a_full_disk_costs_the_best_and_not_the_run(quick, tmp_path, monkeypatch):
    def save(*arguments, notes, **others):
        if notes["step"] == "6":
            raise OSError(28, "No space left on device")
        save_pretrained(*arguments, notes=notes, **others)

    monkeypatch.setattr("train.run.best.save_pretrained", save)
    why = "the best weights so far, of step 6, were not kept ([Errno 28] No space left on device); training goes on"
    note = "is not measured: the lowest held-out loss was at step 6, but it holds the weights of step 3"
    printed = quick(tmp_path).splitlines()
    assert [line for line in printed if "weights" in line] == [f"warning: {why}", f"note: {tmp_path / 'best'} {note}"]
    result = without_seconds(tmp_path)
    assert (result["best_step"], result["best"], len(result["train_loss"])) == (6, None, 12)
    assert load_pretrained(tmp_path / "best")


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


# In time


def test_it_ends_when_the_loss_has_not_fallen_for_some_measurements(quick, snapshots, tmp_path, monkeypatch):
    quick(tmp_path / "all", "--samples", 15)
    losses = without_seconds(tmp_path / "all")["train_loss"]
    for patience, steps in ((1, 9), (2, 12), (3, 15)):
        folder, flags = tmp_path / f"patience-{patience}", ("--samples", 15, "--patience", patience)
        with monkeypatch.context() as patched:
            copies = snapshots(folder, patched)
            quick(folder, *flags)
        result = without_seconds(folder)
        assert result["train_loss"] == losses[:steps] and result["diverged"] is None and result["best_step"] == 6
        assert [point["sample"] for point in result["checkpoints"]] == [*range(0, steps + 1, 3)]
        evaluated = next(path for path in copies if (path / CHECKPOINT_FILE).exists())
        assert f"continuing from step {steps} of 15" in quick(evaluated, *flags)
        assert outcome(evaluated) == outcome(folder)
