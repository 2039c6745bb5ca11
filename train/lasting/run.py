"""One run that lasts: the experiment of experiment.py with a folder, going on after any interruption.

Before: the pretrained weights, or where an interrupted run stopped. Train: the loop, with a record of what it does.
After: the same measures as before. Keep: the model and `result.json`.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch

from data.settings import TRIAL, Sampling, Settings, Training
from evaluate.baseline import POINT_HELD_OUT, Baseline, open_baseline
from evaluate.results import EvalPoint, Result, Run, write_json
from model.device import Machine, fastest_dtype
from model.gpt2 import GPT2
from train.adamw import AdamW
from train.lasting.folder import (
    IDENTITY_FILE,
    Job,
    check_job,
    check_neighbours,
    check_room,
    new_folder,
    state_bytes,
    tidy,
)
from train.lasting.interruption import Interrupted, Signals
from train.lasting.keeper import STATE_FILE, Keeper
from train.lasting.outcome import keep_outcome, result_of
from train.lasting.progress import Progress, duration, summed_up
from train.loop import Diverged, steps
from train.parallel import agree, leave, own_device, processes, share
from train.speed.step import fast_gradients, keep_memory
from train.verify.device_check import compare_with_cpu

MEASUREMENTS = 20  # how often the held-out loss is measured during training,
AT_LEAST = 5  # but not more often than every so many samples: measuring once costs as much as one or two of them
FULL_EVERY = 4  # of these, every so many also measure KL and copying, which take more time; the last one does
CHECKPOINT_TEXTS = 32  # so many texts stand for all of them while training is under way


def open_run(settings: Settings) -> Baseline:
    """Open and check everything that `settings` name; nothing is written."""
    keep_memory()
    torch.backends.cuda.matmul.allow_tf32 = True  # float32 asked for on a GPU: ten bits of mantissa are kept
    return open_baseline(settings, own_device(settings.device))


def open_optimizer(model: GPT2, training: Training, lr: float) -> AdamW:
    piece = 1 << 18 if model.wte.weight.device.type == "cpu" else None  # on a GPU each call costs a launch
    return AdamW(model.parameters(), lr, weight_decay=training.weight_decay, piece=piece)


def prepare(baseline: Baseline, folder: Path, jobs: list[Job], overwrite: bool, common: dict | None = None) -> None:
    """Check everything that can be wrong with `jobs`, and only then make `folder`.

    Args:
        common: of a sweep, whose folder holds the jobs' folders: its `common_identity`.

    Raises:
        ValueError, OSError: with one line on what to do.
    """
    to_do = [job for job in jobs if overwrite or not job.finished]
    if to_do:
        machine = baseline.machine
        compare_with_cpu(baseline.fresh_model(), machine.device, machine.dtype, baseline.sampling.seed)
    check_room(folder, baseline, to_do, at_once=processes()[1] if common else 1)
    new_folder(folder, overwrite, keep=baseline.folder, sweep=common is not None)
    for job in jobs:
        check_job(job)
    if common is not None:
        check_neighbours(folder, common)


def begin(baseline: Baseline) -> None:
    """Say what should be known, and measure the base model."""
    for note in notes_on(baseline):
        print(f"note: {note}")
    if (steps := baseline.settings.training.samples) < TRIAL:
        print(
            f"note: fewer than {TRIAL} steps are a trial: it is measured every {measured_every(steps)} steps, by "
            f"{baseline.sampling.sequences} texts (--eval-sequences N for more; a full run has {Sampling.sequences})"
        )
    size = state_bytes(baseline) / 1e9
    print(f"a run that is interrupted goes on from its last state, {size:.2g} GB in {STATE_FILE}", flush=True)
    before = baseline.before
    held_out = f", held-out loss {before['held_out']['loss']:.3f}" if before["held_out"] else ""
    print(f"before training: ratio {before['ratio']:.3f}{held_out}, in {duration(before['seconds'])}", flush=True)


def notes_on(baseline: Baseline) -> list[str]:
    """What a reader of the numbers should know."""
    machine, notes = baseline.machine, list(baseline.book.notes)
    imitated = machine.dtype == torch.bfloat16 and fastest_dtype(machine.device) != machine.dtype
    if machine.device.type == "cpu" and imitated:
        notes.append("this CPU has no bfloat16 and imitates it, many times slower; --dtype float32 is for it")
    if baseline.held_out > POINT_HELD_OUT:
        notes.append(
            f"of the {baseline.held_out:,} tokens held out the first {POINT_HELD_OUT:,} are measured during training, all of "
            "them before and after"
        )
    if spare := baseline.config.vocab_size - baseline.tokenizer.n_vocab:
        notes.append(
            f"the model has {spare} rows for tokens that its tokenizer does not know (added ones, or a vocabulary padded to a "
            "round number); they are never drawn and begin no text"
        )
    if baseline.name == "lilliput":
        notes.append(
            "lilliput is the small model that is shipped, not GPT-2: it needs larger learning rates "
            "(about 1e-4 to 3e-3), and its figures say nothing about OpenAI's weights"
        )
    return notes


<<<<<<< HEAD
def run(baseline: Baseline, job: Job, signals: Signals, team: Team = ALONE) -> Result:
=======
def run(plan: Plan, yardstick: Yardstick, job: Job, signals: Signals) -> Result:
>>>>>>> f3bf36d8704d57cb845bb77b74c813e383a749e5
    """Fine-tune a fresh model, evaluate it, and write model and result to the job's folder, which is claimed.

    It goes on from the state in that folder if there is one.

    Raises:
        ValueError: the state is damaged.
        OSError: the outcome cannot be written; the state that led to it is kept.
        Interrupted: by a signal; in training, after the state was saved.
    """
<<<<<<< HEAD
    # Before. The seed is that of batches and dropout; start tokens and sampling are the same in every run.
    training, machine = dataclasses.replace(baseline.settings.training, seed=job.seed), baseline.machine
    model, optimizer, keeper, record = open_state(baseline, job)
    team.share(optimizer)
    gradients = team.gradients(model, optimizer, machine.dtype, training.micro_batch, job.seed)
=======
    # Before. The seed is that of batches and dropout; start tokens and luck of the writing are the same in every run.
    training = dataclasses.replace(plan.training, seed=job.seed)
    model, optimizer, keeper, record = open_state(plan, yardstick, job)
    gradients = share(fast_gradients(plan.machine.dtype, training.micro_batch), model, optimizer, job.seed)
>>>>>>> f3bf36d8704d57cb845bb77b74c813e383a749e5
    diverged, clock = None, stopwatch(record["seconds"])

    # Train.
    with signals.deferred(), Progress(job.label, training.samples, optimizer.steps) as progress:
        try:
            for loss in steps(model, baseline.training_tokens, optimizer, training, gradients):
                record["train_loss"].append(loss)
                progress.trained(loss)
                measure_on_the_way(baseline, model, record, training.samples, progress)
                record["seconds"] = clock()
                if signal := agree(signals.received or 0):
                    stop(signal, keeper, record, training.samples)
                if optimizer.steps == training.samples or keeper.due():
                    keeper.save(record)
        except Diverged as end:
            diverged = end.what
    record["seconds"] = clock()
    leave()
    if signals.received:
        raise Interrupted(signals.received)

    # After.
    if diverged is None and not baseline.is_finite(model):
        diverged = "loss"
    after = None if diverged else baseline.evaluate(model, f"after {job.label}")
    if after:
        keep_numbers(record, baseline.point_of(model, training.samples, after))

    # Keep.
    if diverged:
        tell_divergence(job, machine, diverged, len(record["train_loss"]))
    result = result_of(baseline, job, record, after, diverged)
    keep_outcome(job.folder, result, model if after and baseline.settings.save_model else None, baseline)
    if after:
        print(summed_up(Run(result, job.label)), flush=True)
    return result


def open_state(baseline: Baseline, job: Job) -> tuple[GPT2, AdamW, Keeper, dict]:
    """The pretrained model, or an interrupted run's, with its optimizer, and the record of what was done so far."""
    tidy(job.folder)
    write_json(job.folder / IDENTITY_FILE, job.identity)
    model = baseline.fresh_model()
    torch.manual_seed(job.seed)  # for dropout; batches and sampling have generators of their own
    optimizer = open_optimizer(model, baseline.settings.training, job.lr)
    keeper = Keeper(job.folder / STATE_FILE, model, optimizer, job.identity)
    record = keeper.restore()
    if record is None:
        record = {"train_loss": [], "checkpoints": [baseline.first_point], "seconds": 0.0, "measuring": 0.0}
    else:
        record = {"measuring": 0.0} | record  # a state of an earlier version has none
        samples = baseline.settings.training.samples
        print(f"going on from sample {optimizer.steps} of {samples} in {keeper.file}", flush=True)
    return model, optimizer, keeper, record


def stopwatch(seconds: float) -> Callable[[], float]:
    """The seconds from now on, and `seconds` that were measured before."""
    began = time.monotonic() - seconds
    return lambda: time.monotonic() - began


def measured_every(samples: int) -> int:
    """So many samples lie between two measurements of a run of `samples`; the last one is measured anyway."""
    return max(AT_LEAST, samples // MEASUREMENTS)


def measure_on_the_way(baseline: Baseline, model: GPT2, record: dict, samples: int, progress: Progress) -> None:
    """Add a checkpoint to `record` where one is due after the sample just done. After the last one all is measured."""
    done, every = len(record["train_loss"]), measured_every(samples)
    full = done % (FULL_EVERY * every) == 0
    if done == samples:
        progress.measured({})
    elif done % every == 0 and (not full or baseline.is_finite(model)):
        progress.measuring()
        clock = stopwatch(record["measuring"])
        measured = baseline.point(model, done, CHECKPOINT_TEXTS if full else 0)
        progress.measured(measured)
        keep_numbers(record, measured)
        record["measuring"] = clock()


def keep_numbers(record: dict, measured: EvalPoint) -> None:
    """Add a checkpoint to `record`, unless a figure of it is none: the model has exploded."""
    if all(math.isfinite(figure) for figure in measured.values() if isinstance(figure, float)):
        record["checkpoints"].append(measured)


def stop(signal: int, keeper: Keeper, record: dict, samples: int) -> NoReturn:
    """Save, and end the run as `signal` asks, in one line that says where it goes on.

    Raises:
        Interrupted: always.
    """
    saved = keeper.save(record)
    agree(0)  # all wait until the state is saved: torchrun stops all when one has left
    leave()
    message = f"the same command goes on from sample {keeper.saved_steps} of {samples}"
    raise Interrupted(signal, message if saved or keeper.saved_steps else "no state could be saved")


def tell_divergence(job: Job, machine: Machine, what: str, samples: int) -> None:
    print(
        f"at {job.label} ({machine.dtype_name} on {machine.device}) the {what} after sample {samples} is not "
        "finite: diverged; no model is saved",
        flush=True,
    )


def follow(request: Settings, lr: float, signals: Signals) -> None:
    """The part of every process but the first in a data-parallel run: train with it, print and write nothing.

    The first process checks, evaluates, resumes and saves. If it fails it ends, and torchrun ends the others.
    """
<<<<<<< HEAD
    with ending_in_one_line() as signals:
        team = Several(Machine(own_device(request.device), request.dtype).device)  # waits until the first is there
        try:
            if not team.agree(0):
                return  # the run is finished already
            baseline = open_run(request)
            training, model = baseline.settings.training, baseline.fresh_model()
            optimizer = open_optimizer(model, training, lr)
            team.share(optimizer)
            gradients = team.gradients(model, optimizer, baseline.machine.dtype, training.micro_batch, training.seed)
            with signals.deferred():
                for _ in steps(model, baseline.training_tokens, optimizer, training, gradients):
                    if signal := team.agree(signals.received or 0):
                        team.agree(0)
                        raise SystemExit(128 + signal)
        except Diverged:
            pass  # the first process says so
        finally:
            team.leave()
=======
    try:
        to_do = agree(0)
    except RuntimeError:
        raise SystemExit(1) from None  # the connection broke: the first process has ended and has printed why
    if to_do:
        plan = open_plan(request)
        training, model = plan.training, fresh_model(plan)
        optimizer = open_optimizer(model, training, lr)
        gradients = share(fast_gradients(plan.machine.dtype, training.micro_batch), model, optimizer, training.seed)
        with signals.deferred(), contextlib.suppress(Diverged):  # the first process prints that it diverged
            for _ in steps(model, plan.setup.training_tokens, optimizer, training, gradients):
                if signal := agree(signals.received or 0):
                    agree(0)
                    leave()
                    raise SystemExit(128 + signal)
    leave()
>>>>>>> f3bf36d8704d57cb845bb77b74c813e383a749e5
