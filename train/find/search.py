"""Look at the text, search, say what was found.

Over a decade of rates the held-out loss depends on little but rate x steps, the sum of the rates so far (the figure
clock.png). So one run that turns, that is, whose held-out loss has passed its lowest value, tells when the others will.
The first half of the held-out text chooses steps and rate; what is said at the end is measured on the second half.
"""

import dataclasses
import math
import shutil
import time
from itertools import count
from pathlib import Path

import numpy as np

from data.files import write_whole
from data.settings import Settings
from evaluate.baseline import Baseline
from evaluate.results import BEST_FOLDER, Run, halves, lr_label, read_result
from evaluate.verdicts import fits_best
from model.hub import MODEL_FILES
from train.loop import finetune
from train.run.best import drop_best
from train.run.card import CARD_FILE, is_card
from train.run.checkpoint import CHECKPOINT_FILE
from train.run.folder import Job, common_identity, identity_in, in_use, refuse_changes, take_folder
from train.run.lock import locked
from train.run.progress import duration
from train.run.run import notes_on, open_optimizer, open_run, prepare, run, texts_due
from train.run.signals import Signals, ending_in_one_line
from train.speed.step import fast_gradients

RATES = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # half decades
MIDDLE = RATES.index(1e-4)  # where the search begins
HELD_OUT = 4096  # tokens, if they are at most half of the text
BEYOND = 1.5  # times the rate x step of the turn: how far the other rates are trained
SHORT = 10  # a short run has a tenth of the steps
CLOSE = 0.002  # relative: rates that are closer are trained with a second seed


def find(settings: Settings, folder: Path, overwrite: bool, minutes: float | None) -> None:
    """Find rate, steps and model for the text of `settings`; leave the runs in `folder`, and the model in its `best/`.

    Args:
        settings: `training.samples` are the most steps of one run; `training.holdout` may be None: it is chosen here.
        minutes: about how long it may take, if that matters.
    """

    def changed(**training) -> Settings:
        return dataclasses.replace(settings, training=dataclasses.replace(settings.training, **training))

    with ending_in_one_line() as signals:
        if settings.training.holdout is None:
            tokens, window = len(open_run(changed(holdout=0.1)).tokens), settings.training.seq_len + 2
            settings = changed(holdout=max(0.1, min(0.5, HELD_OUT / tokens, 1 - window / tokens)))
        baseline = open_run(settings)
        best, theirs = folder / BEST_FOLDER, any((folder / BEST_FOLDER / name).exists() for name in MODEL_FILES)
        if best.is_symlink() or (theirs and not is_card(best / CARD_FILE)):
            raise ValueError(f"{best} is not of a search, and the model found would replace it; name another --out")
        take_folder(folder, [], overwrite, baseline.folder)
        search = Search(baseline, folder, look(baseline, minutes), signals)
        search_rate(search)
        say(search)


def look(baseline: Baseline, minutes: float | None) -> int:
    """Print what the text is like and how long the search will take; return the most steps of one run."""
    training, model = dataclasses.replace(baseline.settings.training, samples=3), baseline.fresh_model()
    gradients = fast_gradients(baseline.machine.dtype, training.micro_batch)
    steps = finetune(model, baseline.training_tokens, open_optimizer(model, training, 1e-9), training, gradients)
    next(steps)  # it allocates
    began = time.monotonic()
    next(steps), next(steps)
    seconds, budget = (time.monotonic() - began) / 2, baseline.settings.training.samples
    if minutes is not None:
        budget = min(budget, max(3 * SHORT, round(60 * minutes / (2.5 * seconds))))
    read = 100 * training.batch_size * training.seq_len / len(baseline.training_tokens)
    print(
        f"{baseline.book.name}: {len(baseline.tokens):,} tokens, {baseline.tokens_per_word:.1f} a word; the last "
        f"{baseline.held_out:,} are held out; {100 * baseline.repeated:.1f} % of them repeat 13 or more tokens of the "
        f"training text\n100 steps of {training.batch_size} x {training.seq_len} tokens are {read:.1f} epochs\n"
        f"a step takes {seconds:.2g} s: a run of --samples {budget} takes {duration(budget * seconds)}, the search "
        "two or three times that, without evaluations"
    )
    for note in notes_on(baseline):
        print(f"note: {note}")
    return budget


class Search:
    """The runs of a search, at most `budget` steps each, by the index of their rate in RATES, and by seed."""

    def __init__(self, baseline: Baseline, folder: Path, budget: int, signals: Signals):
        self.baseline, self.folder, self.budget, self.signals = baseline, folder, budget, signals
        self.seed = baseline.settings.training.seed
        self.runs: dict[tuple[int, int], Run] = {}

    def measured(self, steps: float) -> int:
        """The first step from `steps` on after which a run is measured, or the budget. A run that ends there and goes
        on later has the same losses before, and a search that is repeated comes to the same decisions."""
        return min(self.budget, next(step for step in count(math.ceil(steps)) if texts_due(step) is not None))

    def train(self, rate: int, steps: float, second_seed: bool = False) -> Run:
        """Train at RATES[rate] for `steps`, at most the budget, or go on to there; a run that is finished is read."""
        lr, seed, steps = RATES[rate], self.seed + second_seed, self.measured(steps)
        known = self.runs.get((rate, seed))
        if known and len(known.train_loss) < known.result["samples"]:
            return known  # it has ended early: more steps would change nothing
        folder = self.folder / f"lr-{lr_label(lr)}{f'-seed{seed}' * second_seed}"
        found = identity_in(folder) or {}
        steps = max(steps, found.get("samples", 0))
        job = Job(
            lr, seed, folder, common_identity(self.baseline) | {"lr": lr, "seed": seed, "samples": steps}, second_seed
        )
        if job.finished:
            refuse_changes(folder, job.identity, found)
        else:
            prepare(self.baseline, folder, [job], False, None)
            with locked(folder) as ours:
                if not ours:
                    raise ValueError(in_use(folder))
                run(self.baseline, job, self.signals)
        self.runs[rate, seed] = Run(read_result(folder), job.label, folder)
        return self.runs[rate, seed]

    def loss(self, rate: int, until: float = math.inf) -> float:
        """The lowest loss on the first half of the held-out text at RATES[rate] up to the step `until`, in nats per
        token: the mean over the seeds."""
        runs = [run for (other, _), run in self.runs.items() if other == rate]
        return float(np.mean([min(halves(p)[0] for p in run.points if p["sample"] <= until) for run in runs]))

    def ranked(self, until: float = math.inf) -> list[int]:
        """The rates that were tried, the lowest loss up to the step `until` first; of equals the smaller rate."""
        return sorted(sorted({rate for rate, _ in self.runs}), key=lambda rate: self.loss(rate, until))


def search_rate(search: Search) -> None:
    """Try rates in short runs, from the middle one on towards the better ones, and train the best of them on. Where it
    turns, the clock tells how long the others take; where it does not, compare at equal steps."""
    short, rate = search.measured(search.budget / SHORT), MIDDLE
    while 0 <= rate < len(RATES) and (rate, search.seed) not in search.runs:
        search.train(rate, short)
        best, *others = search.ranked(short)
        rate = best + 1 if best + 1 not in others else best - 1
    run = search.train(best, search.budget)
    if run.best_step < len(run.train_loss):
        by_the_clock(search, best)
    elif best > 0:
        # Nothing turns: new text is worth more than larger steps. The longer the runs, the smaller is the best rate.
        search.train(best - 1, search.budget)


def by_the_clock(search: Search, best: int) -> None:
    """RATES[best] has turned at some product of rate and step. Train its neighbours to that product and half of it
    more, go on from the best until both of its neighbours are worse; two that are close get a second seed."""
    product = RATES[best] * max(search.runs[best, search.seed].best_step, 5)  # 5: the first step that is measured
    reached = {best}
    while new := {best - 1, best + 1} - reached:
        for rate in new:
            # A smaller rate may be better even if the budget ends before it turns, but not if it ends long before.
            if 0 <= rate < len(RATES) and product / RATES[rate] <= 2.5 * search.budget:
                search.train(rate, max(BEYOND * product / RATES[rate], 15))
        reached |= new
        best, second = search.ranked()[:2]
        while (run := search.runs[best, search.seed]).best_step == len(run.train_loss) < search.budget and run.after:
            search.train(best, BEYOND * run.best_step)  # it was still falling
        steps = {rate: len(search.runs[rate, search.seed].train_loss) for rate in (best, second)}
        close = search.loss(second) < (1 + CLOSE) * search.loss(best) and sum(steps.values()) <= search.budget
        if close and {best - 1, best + 1} <= reached:
            for rate in steps:
                search.train(rate, steps[rate], second_seed=True)
            best = search.ranked()[0]


def say(search: Search) -> None:
    """Print the answer, and copy the model to `best/`."""
    runs, best = search.runs, search.ranked()[0]
    print(f"\n{fits_best([runs[key] for key in sorted(runs, reverse=True)]).sentence}")
    of_best = [run for (rate, _), run in runs.items() if rate == best]
    chosen = min(of_best, key=lambda run: halves(run.stopped_in_time)[0])
    source = chosen.folder / BEST_FOLDER if chosen.result["best"] else chosen.folder
    target = search.folder / BEST_FOLDER
    drop_best(target)
    if chosen.result["best"] or (chosen.after and chosen.best_step == len(chosen.train_loss)):
        target.mkdir(exist_ok=True)
        for file in [source / name for name in (CARD_FILE, *MODEL_FILES)]:  # the card first: it says whose it is
            if file.is_file():
                write_whole(target / file.name, lambda part: shutil.copyfile(file, part))
        print(f'The model: {target}; python -m model {target} "It was" continues a prompt.')
    else:
        print("No weights were kept.")
    for done in runs.values():  # none of them goes on any more
        (done.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        if done.best_step == len(done.train_loss):
            drop_best(done.folder / BEST_FOLDER)
