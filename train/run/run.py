"""A run that can be interrupted: the experiment of experiment.py, with a recorder.

The calls are the same: evaluate, finetune, evaluate. The stand-ins that make them faster are `fast_gradients` for
`plain_gradients` and `FusedAdamW` for `AdamW`; `share_batches` spreads a batch over several processes.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from data.settings import Settings, Training
from evaluate.baseline import Baseline, open_baseline
from evaluate.results import BEST_FOLDER, EvalPoint, Evaluation, Result, Run, all_finite, best_point
from model.device import fastest_dtype
from model.gpt2 import GPT2
from train.adamw import AdamW
from train.levers import clipped, scheduled, trained_parameters
from train.loop import Diverged, finetune
from train.parallel import agree, leave, own_device, processes, share_batches
from train.run.best import drop_best, keep_best, read_best
from train.run.checkpoint import CHECKPOINT_FILE, Checkpointer
from train.run.folder import Job, check_job, check_room, checkpoint_bytes, identity_in, take_folder, tidy_run
from train.run.outcome import complete, keep_outcome, result_of
from train.run.progress import Progress, duration, summed_up
from train.run.signals import Interrupted, Signals
from train.speed.adamw import FusedAdamW
from train.speed.step import fast_gradients, keep_memory
from train.verify.device_check import compare_with_cpu

MIN_STEPS = 5  # between two measurements of the held-out loss: one costs as much as one or two steps
DENSE = 6  # as many measurements come before the distance between them doubles
FULL_EVERY = 4  # a point whose step is a multiple of four distances also measures KL and continues prompts
MANY_TOKENS, REPEATED = 2.0, 0.01  # a word; share of the held-out part: from there on a note is printed
KEPT_FROM = 0.01  # share of the steps from which on the best weights are kept: at most 20 writes


def open_run(settings: Settings) -> Baseline:
    """Open and check everything that `settings` name; nothing is written."""
    keep_memory()
    return open_baseline(settings, own_device(settings.device))


def open_optimizer(model: GPT2, training: Training, lr: float) -> AdamW:
    return FusedAdamW(trained_parameters(model, training.train), lr, weight_decay=training.weight_decay)


def steps_of(baseline: Baseline, training: Training, model: GPT2, optimizer: AdamW, lr: float) -> Iterator[float]:
    """The fine-tune with the levers of `training`; all connected processes share its batches. Yields the losses."""
    base = baseline.base if training.leash else None
    gradients = fast_gradients(baseline.machine.dtype, training.micro_batch, base, training.leash)
    gradients = share_batches(gradients, model, optimizer, training.seed)
    if training.clip:
        gradients = clipped(gradients, optimizer.parameters, training.clip)
    return scheduled(finetune(model, baseline.training_tokens, optimizer, training, gradients), optimizer, lr, training)


def prepare(baseline: Baseline, folder: Path, jobs: list[Job], overwrite: bool, common: dict | None) -> None:
    """Check everything that can be wrong with `jobs`; only then delete old runs, and write down what the new ones are.

    Args:
        common: of a sweep, whose folder holds the jobs' folders: its `common_identity`; None: of one run.
    """
    to_do = [job for job in jobs if overwrite or not job.finished]
    if to_do:
        machine = baseline.machine
        compare_with_cpu(baseline.fresh_model(), machine.device, machine.dtype, baseline.sampling.seed)
    check_room(folder, baseline, to_do, at_once=processes()[1] if common else 1)
    take_folder(folder, jobs, overwrite, baseline.folder, common is not None, common)
    for job in jobs:
        complete(job, baseline.settings.keep_state)


def begin(baseline: Baseline, jobs: list[Job]) -> None:
    """Print what should be known, and evaluate the base model."""
    for note in notes_on(baseline):
        print(f"note: {note}")
    size = max(checkpoint_bytes(baseline, jobs)) / 1e9
    print(
        f"if this is interrupted, the same command continues from the last checkpoint ({size:.2g} GB in "
        f"{CHECKPOINT_FILE})",
        flush=True,
    )
    before = baseline.before
    held_out = f", held-out loss {before['held_out_loss']:.3f}" if baseline.held_out else ""
    print(f"before training: ratio {before['ratio']:.3f}{held_out}, in {duration(before['seconds'])}", flush=True)


def notes_on(baseline: Baseline) -> list[str]:
    """What a reader of the numbers should know."""
    machine, notes = baseline.machine, list(baseline.book.notes)
    imitated = machine.dtype == torch.bfloat16 and fastest_dtype(machine.device) != machine.dtype
    if machine.device.type == "cpu" and imitated:
        notes.append("this CPU has no bfloat16 and imitates it, many times slower; use --dtype float32")
    if spare := baseline.config.vocab_size - baseline.tokenizer.n_vocab:
        notes.append(
            f"the model has {spare} rows for tokens that its tokenizer does not know (added ones, or padding to a "
            "round number); they are never drawn and begin no text"
        )
    if missing := len(baseline.book.text.encode("utf-8")) - len(
        baseline.tokenizer.decode_bytes(baseline.tokens.tolist())
    ):
        notes.append(f"the tokenizer does not know {missing:,} bytes of the text; they are left out")
    if baseline.tokens_per_word > MANY_TOKENS:
        notes.append(
            f"the tokenizer cuts a word of this text into {baseline.tokens_per_word:.1f} tokens, an English one into "
            "about 1.3: the model knows little of such a text, and a window holds few words of it"
        )
    if baseline.repeated > REPEATED:
        notes.append(
            f"{100 * baseline.repeated:.0f} % of the held-out part stands in the training text too, in runs of 13 "
            "tokens or more: there the held-out loss says nothing about new text"
        )
    if baseline.name == "lilliput":
        notes.append(
            "lilliput is the small model that is shipped, not GPT-2: its figures say nothing about OpenAI's weights"
        )
    return notes


def run(baseline: Baseline, job: Job, signals: Signals) -> Result:
    """Fine-tune a fresh model, evaluate it, and write model and result to the job's folder, which is locked.

    It continues from the checkpoint in that folder if there is one. A signal ends it with `Interrupted`.
    """
    # Before. The seed is that of batches and dropout; start tokens and sampling are the same in every run.
    if identity_in(job.folder) is None:
        raise ValueError(f"another process has started {job.folder} anew; stop it, or name another --out")
    check_job(job, again=True)
    training = job.training
    model = baseline.fresh_model()
    torch.manual_seed(job.seed)  # dropout's; batches and sampling have generators of their own
    optimizer = open_optimizer(model, training, job.lr)
    recorder = Recorder(baseline, job, model, optimizer, signals)
    steps = steps_of(baseline, training, model, optimizer, job.lr)

    # Train.
    diverged = None
    with signals.deferred(), recorder.progress:
        try:
            while not agree(recorder.out_of_patience) and (loss := next(steps, None)) is not None:
                recorder.add(loss)
            steps.close()  # at the end of a run that ends early: no dropout from here on
        except Diverged as end:
            diverged = end.what
    leave()
    if signals.received:  # in the step that diverged
        raise Interrupted(signals.received)

    # After.
    if diverged is None and not baseline.is_finite(model):
        diverged = "loss"
    after = None if diverged else baseline.evaluate(model, f"after {job.label}")
    if after and not all_finite(after):
        after, diverged = None, "loss"
    if after:
        recorder.keep(baseline.point(model, optimizer.steps, True, after))
    else:
        print(
            f"at {job.label} ({baseline.machine.dtype_name} on {baseline.machine.device}) the {diverged} after step "
            f"{optimizer.steps} is not finite: diverged; no model is saved",
            flush=True,
        )
    best = recorder.measure_best(after)
    result = result_of(baseline, job, recorder.history, {"after": after, "best": best}, diverged)
    keep_outcome(job.folder, result, model if after and baseline.settings.save_model else None, baseline)
    if after:
        print(summed_up(Run(result, job.label)), flush=True)
    return result


class Recorder:
    """Keeps the history of a run, shows its progress, and saves both with the model so that it can continue."""

    def __init__(self, baseline: Baseline, job: Job, model: GPT2, optimizer: AdamW, signals: Signals):
        tidy_run(job.folder)
        self.baseline, self.model, self.optimizer, self.signals = baseline, model, optimizer, signals
        self.steps, self.patience = job.identity["samples"], baseline.settings.training.patience
        self.best = job.folder / BEST_FOLDER
        self.keeps_best = baseline.settings.save_model and baseline.settings.keep_best
        self.checkpointer = Checkpointer(job.folder / CHECKPOINT_FILE, model, optimizer, job.identity)
        self.history = self.checkpointer.restore()
        if self.history is None:
            self.history = {"train_loss": [], "points": [baseline.first_point], "seconds": 0.0, "measuring": 0.0}
        else:
            print(f"continuing from step {optimizer.steps} of {self.steps} in {self.checkpointer.file}", flush=True)
        self.progress = Progress(job.label, self.steps, optimizer.steps)
        self.began = time.monotonic() - self.history["seconds"]
        if self.history["points"][-1]["sample"] < optimizer.steps < self.steps:
            self.measure()  # a run that goes on after what was its last step

    @property
    def out_of_patience(self) -> bool:
        """Whether the last `--patience` measurements were all above the lowest one."""
        points = [point for point in self.history["points"] if "held_out_windows" in point]
        return bool(self.patience) and len(points) - 1 - points.index(best_point(points)) >= self.patience

    def add(self, loss: float) -> None:
        """Record a step that is done; measure, save or stop if it is time."""
        self.history["train_loss"].append(loss)
        self.progress.trained(loss)
        self.measure()
        self.history["seconds"] = time.monotonic() - self.began
        if signal := agree(self.signals.received or 0):
            saved = self.checkpointer.save(self.history)
            agree(0)  # all wait until the checkpoint is saved: torchrun stops all when one has left
            leave()
            steps = self.checkpointer.saved_steps
            message = f"the same command continues from step {steps} of {self.steps}"
            raise Interrupted(signal, message if saved or steps else "no checkpoint could be saved")
        ended = self.optimizer.steps == self.steps or self.out_of_patience
        if self.checkpointer.due(ended) or (ended and self.baseline.settings.keep_state):
            self.checkpointer.save(self.history)

    def measure(self) -> None:
        """Add a point to the history if one is due after the last step. After the last of all steps, `run` measures."""
        done = self.optimizer.steps
        texts = texts_due(done)
        if done == self.steps:
            self.progress.measured({})
        elif texts is not None and (not texts or self.baseline.is_finite(self.model)):
            began = time.monotonic()
            self.progress.measuring()
            point = self.baseline.point(self.model, done, texts)
            self.progress.measured(point)
            self.keep(point)
            if self.keeps_best and best_point(self.history["points"]) is point and done >= KEPT_FROM * self.steps:
                self.history["best_sha256"] = keep_best(self.best, self.model, self.baseline)
            self.history["measuring"] += time.monotonic() - began

    def keep(self, point: EvalPoint) -> None:
        """Add `point` to the history, in place of one of the same step, unless a number is not finite."""
        if all_finite(point):
            others = [other for other in self.history["points"] if other["sample"] != point["sample"]]
            self.history["points"] = [*others, point]

    def measure_best(self, after: Evaluation | None) -> Evaluation | None:
        """The evaluation of the weights in `best/`. Deletes `best/` and returns None if the last weights are the best,
        or none are wanted. After a divergence (`after` is None) the last weights do not count."""
        best = best_point(self.history["points"])
        kept = self.keeps_best and best is not None and best["sample"] >= KEPT_FROM * self.steps  # 0: the base model's
        if kept and not (after and best["sample"] == self.optimizer.steps):
            model = read_best(self.best, self.history.get("best_sha256"), self.baseline)
            return self.baseline.evaluate(model, f"step {best['sample']}") if model else None
        if not (kept and self.baseline.settings.keep_state):  # a run that goes on may need it
            drop_best(self.best)
        return None


def texts_due(step: int) -> bool | None:
    """Whether not only the losses are measured after `step`; None: nothing is.

    Measurements come after 5, 10, ..., 30 steps, then three for each doubling: large rates turn early, small ones late.
    They do not depend on the length of the run, so a run that goes on has the same ones as a run that was never ended.
    """
    distance = MIN_STEPS
    while step > DENSE * distance:
        distance *= 2
    return None if step % distance else step % (FULL_EVERY * distance) == 0


def follow(settings: Settings, lr: float, signals: Signals) -> None:
    """What every process but the first does in a data-parallel run: train with it, print and write nothing.

    The first process checks, evaluates, resumes and saves. If it fails it ends, and torchrun ends the others.
    """
    try:
        to_do = agree(0)
    except RuntimeError:
        raise SystemExit(1) from None  # the connection broke: the first process has ended and has printed why
    if to_do:
        baseline, training = open_run(settings), settings.training
        model = baseline.fresh_model()
        optimizer = open_optimizer(model, training, lr)
        steps = steps_of(baseline, training, model, optimizer, lr)
        with signals.deferred(), contextlib.suppress(Diverged):  # the first process prints that it diverged
            while not agree(0) and next(steps, None) is not None:  # the first process says when it is enough
                if signal := agree(signals.received or 0):
                    agree(0)
                    leave()
                    raise SystemExit(128 + signal)
    leave()
