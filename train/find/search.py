"""Look at the text, search by the clock, say what was found.

Over a decade of learning rates the held-out loss depends on little but the sum of the rates so far, rate x steps (the
figure clock.png shows it). So one run that turns, that is, whose held-out loss has passed its lowest value, tells when
the others will: the search trains each just long enough. (The usual range test, one run with a growing rate, gives
rates that are 5 to 180 times too large.)

The first half of the held-out text chooses steps and rate; what is said at the end is measured on the second half.
"""

import dataclasses
import math
import shutil
import time
from pathlib import Path

from data.files import write_whole
from data.settings import Settings
from evaluate.baseline import Baseline
from evaluate.results import BEST_FOLDER, Run, best_point, lr_label, read_result, runs_of
from evaluate.verdicts import fits_best
from model.hub import MODEL_FILES
from train.loop import finetune
from train.run.best import drop_best
from train.run.card import CARD_FILE
from train.run.checkpoint import CHECKPOINT_FILE
from train.run.folder import Job, common_identity, identity_in, new_folder
from train.run.lock import holder, locked
from train.run.progress import duration
from train.run.run import notes_on, open_optimizer, open_run, prepare, run
from train.run.signals import Signals, ending_in_one_line
from train.speed.step import fast_gradients

RATES = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # half decades
MIDDLE = RATES.index(1e-4)  # where the search begins
HELD_OUT = 4096  # tokens, if they are at most half of the text
BEYOND = 1.5  # times the rate x step of the turn: how far the other rates are trained
SHORT = 6  # a short run has a sixth of the steps
CLOSE = 0.002  # relative: rates that are closer are trained with a second seed


def find(settings: Settings, folder: Path, overwrite: bool, minutes: float | None) -> None:
    """Find rate, steps and model for the text of `settings`; leave the runs in `folder`, and the model in its `best/`.

    Args:
        settings: `training.samples` are the most steps of one run; `training.holdout` may be None: it is chosen here.
        minutes: about how long it may take; None: as long as it takes.
    """
    with ending_in_one_line() as signals:
        if settings.training.holdout is None:
            tokens = len(open_run(replaced(settings, holdout=0.1)).tokens)
            settings = replaced(settings, holdout=min(0.5, max(0.1, HELD_OUT / tokens)))
        baseline = open_run(settings)
        budget = look(baseline, minutes)
        new_folder(folder, overwrite, keep=baseline.folder, sweep=True)
        if minutes and (begun := identity_in(folder / f"lr-{lr_label(RATES[MIDDLE])}")):
            budget = begun["samples"]  # the time of a step is never measured the same twice
        search = Search(baseline, folder, budget, signals)
        middle = search.train(MIDDLE, budget)
        if middle.best_step < len(middle.train_loss):
            by_the_clock(search)
        else:
            at_equal_steps(search)
        say(search)


def replaced(settings: Settings, **training) -> Settings:
    return dataclasses.replace(settings, training=dataclasses.replace(settings.training, **training))


def look(baseline: Baseline, minutes: float | None) -> int:
    """Print what the text is like and how long the search will take; return the most steps of one run."""
    training, model = baseline.settings.training, baseline.fresh_model()
    steps = finetune(
        model,
        baseline.training_tokens,
        open_optimizer(model, training, lr=1e-9),
        dataclasses.replace(training, samples=3),
        fast_gradients(baseline.machine.dtype, training.micro_batch),
    )
    next(steps)  # it allocates and compiles
    began = time.monotonic()
    next(steps), next(steps)
    seconds = (time.monotonic() - began) / 2
    budget = training.samples
    if minutes is not None:
        budget = max(30, min(budget, round(60 * minutes / (2.5 * seconds))))
    print(f"{baseline.book.name}: {len(baseline.tokens):,} tokens, {baseline.tokens_per_word:.1f} a word")
    repeated = f"{100 * baseline.repeated:.1f} % of them stand in the rest too"
    print(f"the last {baseline.held_out:,} tokens are held out; {repeated}, in runs of 13 or more")
    size = f"{training.batch_size} x {training.seq_len} tokens"
    print(f"100 steps of {size} read the rest {baseline.readings(100):.1f} times")
    most = f"{duration(budget * seconds)} for one run of {budget} steps, at most three times that for the search"
    print(f"a step takes {seconds:.2g} s: {most}, measuring not counted")
    for note in notes_on(baseline):
        print(f"note: {note}")
    return budget


class Search:
    """The runs of a search, by the index of their rate in RATES: the last is the one with the most steps.

    Args:
        budget: the most steps of one run.
    """

    def __init__(self, baseline: Baseline, folder: Path, budget: int, signals: Signals):
        self.baseline, self.folder, self.budget, self.signals = baseline, folder, budget, signals
        self.seed = baseline.settings.training.seed
        self.runs: dict[tuple[int, int], Run] = {}  # by rate and seed

    def train(self, rate: int, steps: float, second_seed: bool = False) -> Run:
        """Train at RATES[rate] for `steps`, at most the budget, or go on to there; a run that is finished is read."""
        lr, seed = RATES[rate], self.seed + second_seed
        folder = self.folder / f"lr-{lr_label(lr)}{f'-seed{seed}' * second_seed}"
        steps = min(self.budget, math.ceil(steps))
        done = (identity_in(folder) or {}).get("samples", 0)
        identity = common_identity(self.baseline) | {"lr": lr, "seed": seed, "samples": max(steps, done)}
        job = Job(lr, seed, folder, identity, second_seed)
        prepare(self.baseline, folder, [job], False, None)
        with locked(folder) as ours:
            if not ours:
                raise ValueError(f"another process is using {folder} ({holder(folder)}); stop it first")
            if not job.finished:
                run(self.baseline, job, self.signals)
        self.runs[rate, seed] = Run(read_result(folder), job.label, folder)
        return self.runs[rate, seed]

    def loss(self, rate: int, until: float = math.inf) -> float:
        """The lowest loss on the first half of the held-out text at RATES[rate] up to the step `until`, in nats per
        token: the mean over the seeds."""
        points = [
            best_point([point for point in run.result["checkpoints"] if point["sample"] <= until])
            for (other, _), run in self.runs.items()
            if other == rate
        ]
        return sum(point["held_out_halves"][0] for point in points) / len(points)

    def ranked(self) -> list[int]:
        """The rates that were tried, the best one first."""
        return sorted({rate for rate, _ in self.runs}, key=self.loss)


def by_the_clock(search: Search) -> None:
    """The middle rate has turned, at some product of rate and step: train the others to that product and half of it
    more, a third and three times the rate first, then further on the side where it is better."""
    middle = search.runs[MIDDLE, search.seed]
    product = RATES[MIDDLE] * max(middle.best_step, 5)  # 5: the first step that is measured

    def tried(rate: int) -> bool:
        """Train at RATES[rate] if that is new and if it can turn within the budget."""
        if (rate, search.seed) in search.runs or not 0 <= rate < len(RATES) or product / RATES[rate] > search.budget:
            return False
        search.train(rate, max(BEYOND * product / RATES[rate], 15))
        return True

    tried(MIDDLE - 1), tried(MIDDLE + 1)
    while True:
        best = search.ranked()[0]
        run, steps = search.runs[best, search.seed], len(search.runs[best, search.seed].train_loss)
        if run.best_step == steps < search.budget:
            search.train(best, BEYOND * steps)  # it was still falling
        elif not (tried(best - 1) or tried(best + 1)):
            break
    best, second = search.ranked()[:2]
    if search.loss(second) < (1 + CLOSE) * search.loss(best):
        for rate in (best, second):
            search.train(rate, len(search.runs[rate, search.seed].train_loss), second_seed=True)


def at_equal_steps(search: Search) -> None:
    """Nothing turns within the budget: new text is worth more than larger steps. Try the other rates for a sixth of it,
    and the best of these for the whole."""
    short = search.budget / SHORT
    for side in (-1, 1):
        rate = MIDDLE + side
        search.train(rate, short)
        if search.loss(rate, short) < search.loss(MIDDLE, short):
            search.train(rate + side, short)
    others = [rate for rate, _ in search.runs if rate != MIDDLE]
    search.train(min(others, key=lambda rate: search.loss(rate, short)), search.budget)


def say(search: Search) -> None:
    """Print the answer, and copy the model to `best/`."""
    runs, (first, *others) = search.runs, search.ranked()
    print(f"\n{fits_best(runs_of([run.result for run in runs.values()])).sentence}")
    whole = [rate for rate in others if len(runs[rate, search.seed].train_loss) == search.budget]
    late = {rate: search.loss(rate, search.budget / 2) - search.loss(rate) for rate in (first, *whole)}
    if whole and runs[first, search.seed].best_step == search.budget:
        print(f"At the end the loss falls fastest at {lr_label(RATES[max(late, key=late.get)])}.")
    chosen = min(
        (run for (rate, _), run in runs.items() if rate == first),
        key=lambda run: run.stopped_in_time["held_out_halves"][0],
    )
    target = search.folder / BEST_FOLDER
    drop_best(target)
    if chosen.best_step:
        source = chosen.folder / BEST_FOLDER if chosen.best_step < len(chosen.train_loss) else chosen.folder
        target.mkdir()
        for name in (CARD_FILE, *MODEL_FILES):
            write_whole(target / name, lambda part: shutil.copyfile(source / name, part))
        print(f'The model: {target}; python -m model {target} "It was" continues a prompt.')
    for done in runs.values():  # none of them goes on any more
        (done.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        if done.best_step == len(done.train_loss):
            drop_best(done.folder / BEST_FOLDER)
