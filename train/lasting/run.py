"""One run that lasts: the experiment of experiment.py with a folder, going on after any interruption.

Before: the pretrained weights, or where an interrupted run stopped. Train: the loop, with a record of what it does.
After: the same measures as before. Keep: the model and `result.json`.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from data.settings import TRIAL, Sampling, Settings, Training
from evaluate.measures.measure import HELD_OUT_ON_THE_WAY
from evaluate.measures.reference import general_windows
from evaluate.measures.yardstick import Yardstick, open_yardstick
from evaluate.results import Checkpoint, Result, write_json
from evaluate.setup import Setup, open_setup
from model.device import Machine, fastest_dtype
from model.gpt2 import GPT2
from model.pretrained import load_pretrained
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


@dataclass(frozen=True)
class Plan:
    """A request whose model and text are open, and which has been found to fit together."""

    setup: Setup
    training: Training
    sampling: Sampling
    machine: Machine
    save_model: bool


def open_plan(request: Settings) -> Plan:
    """Open what `request` names and check its settings against it; nothing is written.

    Raises:
        ValueError, OSError: with one line on what to do.
    """
    training, machine = request.training, Machine(own_device(request.device), request.dtype)
    keep_memory()
    torch.backends.cuda.matmul.allow_tf32 = True  # float32 asked for on a GPU: ten bits of mantissa are kept
    setup = open_setup(
        request.model,
        request.text,
        raw_text=request.raw_text,
        general_text=request.general_text,
        holdout=training.holdout,
    )
    if training.seq_len > setup.config.block_size:
        raise ValueError(
            f"--seq-len {training.seq_len} is over the model's context of {setup.config.block_size} tokens; "
            f"use {setup.config.block_size} or less"
        )
    if len(setup.training_tokens) <= training.seq_len:
        raise ValueError(
            f"the text has {len(setup.training_tokens)} tokens to train on, a window needs {training.seq_len + 1}; "
            "use a longer text or a smaller --seq-len"
        )
    if training.holdout and setup.held_out < 2:
        raise ValueError(
            f"--holdout {training.holdout} of {len(setup.tokens)} tokens leaves nothing to predict; hold out more"
        )
    general_windows(setup, training.seq_len)  # says it if the text is too short
    return Plan(setup, training, request.sampling, machine, request.save_model)


def fresh_model(plan: Plan) -> GPT2:
    """The pretrained weights, as they are before any training."""
    return load_pretrained(plan.setup.folder, dropout=plan.training.dropout).to(plan.machine.device)


def open_optimizer(model: GPT2, training: Training, lr: float) -> AdamW:
    piece = 1 << 18 if model.wte.weight.device.type == "cpu" else None  # on a GPU each call costs a launch
    return AdamW(model.parameters(), lr, weight_decay=training.weight_decay, piece=piece)


def prepare(plan: Plan, folder: Path, jobs: list[Job], overwrite: bool, common: dict | None = None) -> None:
    """Check everything that can be wrong with `jobs`, and only then make `folder`.

    Args:
        common: of a sweep, whose folder holds the jobs' folders: its `common_identity`.

    Raises:
        ValueError, OSError: with one line on what to do.
    """
    to_do = [job for job in jobs if overwrite or not job.finished]
    if to_do:
        compare_with_cpu(fresh_model(plan), plan.machine.device, plan.machine.dtype, plan.sampling.seed)
    check_room(folder, plan.setup, to_do, plan.save_model, at_once=processes()[1] if common else 1)
    new_folder(folder, overwrite, keep=plan.setup.folder, sweep=common is not None)
    for job in jobs:
        check_job(job)
    if common is not None:
        check_neighbours(folder, common)


def begin(plan: Plan) -> Yardstick:
    """Say what should be known, and measure the base model."""
    for note in notes_on(plan.setup, plan.machine):
        print(f"note: {note}")
    if (samples := plan.training.samples) < TRIAL:
        print(
            f"note: fewer than {TRIAL} samples are a trial: it is measured every {measured_every(samples)} samples, by "
            f"{plan.sampling.sequences} texts (--eval-sequences N for more; a full run has {Sampling.sequences})"
        )
    size = state_bytes(plan.setup) / 1e9
    print(f"a run that is interrupted goes on from its last state, {size:.2g} GB in {STATE_FILE}", flush=True)
    yardstick = open_yardstick(plan.setup, fresh_model(plan), plan.sampling, plan.training.seq_len, plan.machine)
    before = yardstick.before
    held_out = f", held-out loss {before['held_out']['loss']:.3f}" if before["held_out"] else ""
    print(
        f"before training: ratio {before['ratio']:.3f}{held_out}, measured in {duration(before['seconds'])}", flush=True
    )
    return yardstick


def notes_on(setup: Setup, machine: Machine) -> list[str]:
    """What somebody who reads the numbers, or waits for them, should know."""
    notes = list(setup.book.notes)
    imitated = machine.dtype == torch.bfloat16 and fastest_dtype(machine.device) != machine.dtype
    if machine.device.type == "cpu" and imitated:
        notes.append("this CPU has no bfloat16 and imitates it, many times slower; --dtype float32 is for it")
    if setup.held_out > HELD_OUT_ON_THE_WAY:
        notes.append(
            f"of the {setup.held_out:,} tokens held out the first {HELD_OUT_ON_THE_WAY:,} are measured during training, all of "
            "them before and after"
        )
    if spare := setup.config.vocab_size - setup.tokenizer.n_vocab:
        notes.append(
            f"the model has {spare} rows for tokens that its tokenizer does not know (added ones, or a vocabulary padded to a "
            "round number); they are never drawn and begin no text"
        )
    if setup.model == "lilliput":
        notes.append(
            "lilliput is the small model that is shipped, not GPT-2: it wants larger learning rates "
            "(about 1e-4 to 3e-3), and its figures say nothing about OpenAI's weights"
        )
    return notes


def run(plan: Plan, yardstick: Yardstick, job: Job, signals: Signals) -> Result:
    """Fine-tune a fresh model, evaluate it, and write model and result to the job's folder, which is claimed.

    It goes on from the state in that folder if there is one.

    Raises:
        ValueError: the state is damaged.
        OSError: the outcome cannot be written; the state that led to it is kept.
        Interrupted: by a signal; in training, after the state was saved.
    """
    # Before. The seed is that of batches and dropout; start tokens and luck of the writing are the same in every run.
    training = dataclasses.replace(plan.training, seed=job.seed)
    model, optimizer, keeper, record = open_state(plan, yardstick, job)
    gradients = share(fast_gradients(plan.machine.dtype, training.micro_batch), model, optimizer, job.seed)
    diverged, clock = None, stopwatch(record["seconds"])

    # Train.
    with signals.deferred(), Progress(job.label, training.samples, optimizer.steps) as progress:
        try:
            for loss in steps(model, plan.setup.training_tokens, optimizer, training, gradients):
                record["train_loss"].append(loss)
                progress.trained(loss)
                measure_on_the_way(yardstick, model, record, training.samples, progress)
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
    if diverged is None and not yardstick.finds_sound(model):
        diverged = "loss"
    after = None if diverged else yardstick.evaluate(model, f"after {job.label}")
    if after:
        keep_numbers(record, yardstick.checkpoint_of(model, training.samples, after))

    # Keep.
    if diverged:
        tell_divergence(job, plan.machine, diverged, len(record["train_loss"]))
    result = result_of(yardstick, plan.training, job, record, after, diverged)
    keep_outcome(job.folder, result, model if after and plan.save_model else None, plan.setup)
    if after:
        print(summed_up(job.label, result), flush=True)
    return result


def open_state(plan: Plan, yardstick: Yardstick, job: Job) -> tuple[GPT2, AdamW, Keeper, dict]:
    """The pretrained model, or an interrupted run's, with its optimizer, and the record of what was done so far."""
    tidy(job.folder)
    write_json(job.folder / IDENTITY_FILE, job.identity)
    model = fresh_model(plan)
    torch.manual_seed(job.seed)  # for dropout; batches and sampling have generators of their own
    optimizer = open_optimizer(model, plan.training, job.lr)
    keeper = Keeper(job.folder / STATE_FILE, model, optimizer, job.identity)
    record = keeper.restore()
    if record is None:
        record = {"train_loss": [], "checkpoints": [yardstick.first_checkpoint], "seconds": 0.0, "measuring": 0.0}
    else:
        record = {"measuring": 0.0} | record  # a state of an earlier version has none
        samples = plan.training.samples
        print(f"going on from sample {optimizer.steps} of {samples} in {keeper.file}", flush=True)
    return model, optimizer, keeper, record


def stopwatch(seconds: float) -> Callable[[], float]:
    """The seconds from now on, and `seconds` that were measured before."""
    began = time.monotonic() - seconds
    return lambda: time.monotonic() - began


def measured_every(samples: int) -> int:
    """So many samples lie between two measurements of a run of `samples`; the last one is measured anyway."""
    return max(AT_LEAST, samples // MEASUREMENTS)


def measure_on_the_way(yardstick: Yardstick, model: GPT2, record: dict, samples: int, progress: Progress) -> None:
    """Add a checkpoint to `record` where one is due after the sample just done. After the last one all is measured."""
    done, every = len(record["train_loss"]), measured_every(samples)
    full = done % (FULL_EVERY * every) == 0
    if done == samples:
        progress.measured({})
    elif done % every == 0 and (not full or yardstick.finds_sound(model)):
        progress.measuring()
        clock = stopwatch(record["measuring"])
        measured = yardstick.checkpoint(model, done, CHECKPOINT_TEXTS if full else 0)
        progress.measured(measured)
        keep_numbers(record, measured)
        record["measuring"] = clock()


def keep_numbers(record: dict, measured: Checkpoint) -> None:
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
