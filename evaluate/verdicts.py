"""What the numbers of a sweep say: verdicts by stated rules, and the conclusion that is made of them.

Everything here is a function of result files alone. A verdict whose numbers are missing (nothing held out, a book too
short) is not made, and `judge` says which those are.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.settings import TRIAL
from evaluate.intervals import Interval, t_interval, wilson_interval
from evaluate.results import EvalPoint, Run, best_point, copied_texts, halves, loss_change, run_label, several_levers

SEEDS = 3  # with fewer, chance and learning rate cannot be told apart, and no rate is called better than another


class NotMeasured(Exception):
    """A number that a verdict needs is not in the result."""


# What a rule finds in a run: words that complete its name ("from step 40 on"), and the numbers; None: nothing.
Found = tuple[str, str] | None


class Rule(NamedTuple):
    name: str  # what the run does: "copies"
    words: str  # when the rule holds, for readers
    holds: Callable[[Run], Found]


@dataclass(frozen=True)
class Verdict:
    run: str | None  # the name of runs that differ in their seed; None: of none in particular
    seed: int | None  # None: of all seeds
    name: str
    sentence: str  # with the numbers
    when: str = ""


def measured_losses(run: Run) -> list[EvalPoint]:
    """The points at which the losses were measured, the base model's first."""
    points = [point for point in run.points if "held_out_windows" in point]
    if len(points) < 2:
        raise NotMeasured("no held-out loss during training")
    if not loss_change(*points[:2], half=1):
        raise NotMeasured("too few windows are held out")
    return points


def rises(first: EvalPoint, second: EvalPoint) -> bool:
    """Whether the held-out loss rises from `first` to `second` by more than its windows differ."""
    return loss_change(first, second, half=1)[0] > 0


def diverged(run: Run) -> Found:
    if run.after:
        return None
    return (f"after step {len(run.train_loss)}", "the loss is not a finite number from there on")


def both_losses(point: EvalPoint) -> str:
    return f"held-out loss {point['held_out_loss']:.3f} (training text: {point['training_text_loss']:.3f})"


def spoiled(points: list[EvalPoint]) -> list[EvalPoint]:
    """Those at which the model predicts the held-out text and the training text worse than the base model does."""
    base = points[0]
    return [p for p in points if p["training_text_loss"] > base["training_text_loss"] and rises(base, p)]


def too_large_a_step(run: Run) -> Found:
    points = measured_losses(run)
    if not (found := spoiled(points)):
        return None
    worst = max(found, key=lambda point: point["training_text_loss"])
    return "", f"{both_losses(points[0])} before, {both_losses(worst)} at step {worst['sample']}"


def over_fits(run: Run) -> Found:
    # A step that is too large raises the held-out loss too, and that is no over-fitting: only what follows counts.
    points = measured_losses(run)
    points = points[points.index(found[-1]) + 1 if (found := spoiled(points)) else 0 :]
    if not points:
        return None
    lowest, last = best_point(points), points[-1]
    if not rises(lowest, last) or last["training_text_loss"] >= lowest["training_text_loss"]:
        return None
    return f"from step {lowest['sample']} on", f"{both_losses(lowest)} there, {both_losses(last)} at the end"


def copies(run: Run) -> Found:
    (mine, texts), (base, of_base) = copied_texts(run.after), copied_texts(run.before)
    if wilson_interval(mine / texts, texts)[0] <= wilson_interval(base / of_base, of_base)[1]:
        return None
    share = f"{100 * run.after['copied']:.1f} % of its tokens lie in copied runs"
    return "", f"{share}, in {mine} of {texts} texts (base model: {base} of {of_base})"


def memorised(run: Run) -> Found:
    mine, base = run.after["extraction"], run.before["extraction"]
    if not (mine["training_ci"] and mine["held_out_ci"]):
        raise NotMeasured("too little text for extraction was trained on or held out")
    if mine["training_ci"][0] <= max(mine["held_out_ci"][1], base["training_ci"][1]):
        return None
    of = {"training text": mine["training"], "held-out text": mine["held_out"], "base model": base["training"]}
    shares = ", ".join(f"{100 * share:.1f} % ({name})" for name, share in of.items())
    return "", f"greedy continuations match the book in {shares} of their tokens"


def ended_early(run: Run) -> Found:
    patience, steps = run.result["settings"].get("patience"), len(run.train_loss)
    if not patience or steps == run.result["samples"]:
        return None
    reason = f"the held-out loss had not fallen for {patience} measurements"
    return (f"after step {steps}, as {reason}", f"{run.result['samples']} steps were asked for")


RULES = (
    Rule(  # the only one for a run without a model
        "diverged", "The training loss was no longer a finite number. Such a run has no model.", diverged
    ),
    Rule(
        "takes too large a step",
        "At some measurement the model predicts both texts, held-out and training text, worse than the base model.",
        too_large_a_step,
    ),
    Rule(
        "over-fits",
        "At the end the held-out loss is higher than at its lowest, and the loss on the training text is lower. After "
        "too large a step, only what follows its recovery counts.",
        over_fits,
    ),
    Rule(
        "copies",
        "The share of its texts with a copied run is above the base model's, which was not trained on the text: its "
        "95 % interval (Wilson 1927) lies wholly above the other.",
        copies,
    ),
    Rule(
        "has memorised passages",
        "Its extraction from the training text is higher than that from the held-out text, and than the base model's: "
        "the first interval lies wholly above the two others.",
        memorised,
    ),
    Rule("ended early", "None of the last --patience measurements lowered the held-out loss.", ended_early),
)
RISES = (
    "a loss is higher",
    "Both models read the same windows of the half of the held-out text that did not choose. The 95 % interval of the "
    "mean change (Student's t over the windows) lies above 0.",
)
FITS_BEST = (
    "fits best",
    "The lowest held-out loss, stopped in time. The first half of the held-out text chooses the step of each run, and "
    "by the mean over seeds the rate; the second half reports. With three seeds or more, another rate or the base "
    "model is as good within the noise if the 95 % interval of its difference, paired by seed (Student's t), reaches "
    "0. With fewer, the lowest loss is named, and no rate is said to fit best.",
)


def fits_best(runs: list[Run]) -> Verdict:
    """Which learning rate has the lowest loss if it is stopped in time, which are as good, and what to try."""
    points: dict[str, dict[int, EvalPoint]] = {}  # by the seed
    for run in runs:
        if run.stopped_in_time is None:
            raise NotMeasured("nothing was held out")
        points.setdefault(run.name, {})[run.seed] = run.stopped_in_time
    chosen = {name: np.mean([halves(point)[0] for point in stopped.values()]) for name, stopped in points.items()}
    best, *others = sorted(points, key=chosen.get)
    steps = {name: [point["sample"] for point in stopped.values()] for name, stopped in points.items()}
    if not any(steps[best]):
        nothing = "No rate gains anything on this text: the base model fits best."
        return Verdict(None, None, "the base model fits best", nothing)

    losses = {name: {seed: halves(p)[1] for seed, p in stopped.items()} for name, stopped in points.items()}
    first = runs[0].points[0]
    losses["the base model"] = base = dict.fromkeys(losses[best], halves(first)[1])
    mean = {name: float(np.mean([*by_seed.values()])) for name, by_seed in losses.items()}
    loss, seeds = mean[best], len(losses[best])
    change = difference(base, losses[best]) or loss_change(first, *points[best].values(), half=1)
    change = f"a change of {signed(loss - mean['the base model'], change)} from the base model"
    own = [run for run in runs if run.name == best]
    lr, lever, trained = own[0].lr, own[0].lever, [len(run.train_loss) for run in own]
    several, levers = len(points) > 1, several_levers(runs)
    lrs = {run.lr for run in runs if run.lever == lever or not levers}
    what = in_words(["the lever"] * levers + ["the rate"] * (len({run.lr for run in runs}) > 1) + ["the step"])
    verdict = "fits best" if seeds >= SEEDS else "lowest loss"
    says = "reaches a loss of" if not several else "fits best, with" if seeds >= SEEDS else "has the lowest loss:"
    sentences = [
        f"Stopped in time, {best} {says} {loss:.3f} (perplexity {perplexity(loss)}"
        f"{f', mean of {seeds} seeds' * (seeds > 1)}) at {place(steps[best])} "
        f"({own[0].readings(np.mean(steps[best])):.1f} readings of the training text), {change}.",
        f"One half of the held-out text chose {what}, the other gives these losses.",
    ]

    def described(name: str) -> str:
        if not any(steps.get(name, [])):
            return name
        times = float(np.mean(steps[name]) / np.mean(steps[best]))
        when = f"{max(times, 1 / times):.1f}".removesuffix(".0") + f" times {'earlier' if times < 1 else 'later'}"
        return f"{name} with {mean[name]:.3f} at {place(steps[name])}{'' if times == 1 else f', {when}'}"

    gaining = [name for name in others if any(steps[name])]
    if seeds >= SEEDS:
        gaps = {name: difference(losses[best], losses[name]) for name in (*gaining, "the base model")}
        as_good = [described(name) for name, gap in gaps.items() if gap and gap[0] <= 0]
        if as_good:
            verdict += ", but within the noise"
            sentences.append(f"As good within the noise: {'; '.join(as_good)}.")
    elif several:
        sentences += [f"Next comes {described(gaining[0])}."] if gaining else []
        sentences.append(
            f"{'One seed was' if seeds == 1 else 'Two seeds were'} run: train.sweep --seeds 3 tells whether another "
            "order of the batches changes this."
        )
    if useless := [name for name in others if not any(steps[name])]:
        sentences.append(f"Nothing is gained at {in_words(useless)}.")
    for word, end, way in (("largest", max(lrs), 1), ("smallest", min(lrs), -1)):
        if len(lrs) > 1 and lr == end:
            further = 10 ** ((round(2 * math.log10(lr)) + way) / 2)  # the next of 1, 3, 10, 30, ...
            further = run_label(float(f"{further:.0e}"), 0, False, lever)
            sentences.append(f"{best} is the {word} rate: try {further} too.")
    if steps[best] == trained:
        sentences.append(f"The loss was still falling at the end: try more than {max(trained)} steps.")
    return Verdict(best if several else None, None, verdict, " ".join(sentences))


def difference(first: dict[int, float], second: dict[int, float]) -> Interval | None:
    """95 % interval of second - first, losses by the seed. Equal seeds share their batches: they are paired."""
    return t_interval([second[seed] - first[seed] for seed in first.keys() & second.keys()])


def signed(change: float, interval: Interval | None) -> str:
    return f"{change:+.3f}" + (f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else "")


def place(steps: list[int]) -> str:
    first, last = min(steps), max(steps)
    return f"step {first}" if first == last else f"steps {first} to {last}"


def what_the_exercise_sees(runs: list[Run]) -> list[str]:
    """Where the exercise's own numbers are best; nothing if fewer than two learning rates finished."""
    ended = [run for run in runs if run.after]
    names, first = dict.fromkeys(run.name for run in ended), runs[0]
    if len(names) < 2:
        return []

    def best(number: Callable[[Run], float], choose: Callable) -> str:
        means = {name: np.mean([number(run) for run in ended if run.name == name]) for name in names}
        name = choose(means, key=means.get)
        return f"{name} ({means[name]:.3f})"

    ratios = [best(lambda run: run.after["ratio"], max)]
    ratios += [f"that {words} at {best(lambda run: run.after[key], max)}" for key, words in first.expected.items()]
    return [
        "The exercise's final numbers: the training loss is lowest at "
        f"{best(lambda run: run.last_loss, min)}, the ratio highest at {'; '.join(ratios)}. The book's own ratio is "
        f"{first.book_ratio:.3f}."
    ]


def perplexity(loss: float) -> str:
    """exp(loss), with three significant digits or all before the point."""
    if loss > math.log(1e6):
        return "over a million"
    value = math.exp(loss)
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def judge(runs: list[Run]) -> tuple[list[Verdict], dict[tuple[str, str], list[str]]]:
    """All verdicts on `runs` (see `find_runs`).

    Returns:
        them, and {(rule, reason): labels of runs} of those that could not be made because a number is missing; the
        rule about all runs has no label.
    """
    verdicts, not_made = [], {}
    try:
        verdicts.append(fits_best(runs))
    except NotMeasured as reason:
        not_made[FITS_BEST[0], str(reason)] = []
    for run in runs:
        for rule in RULES if run.after else RULES[:1]:
            try:
                found = rule.holds(run)
            except NotMeasured as reason:
                not_made.setdefault((rule.name, str(reason)), []).append(run.label)
                continue
            if found:
                when, why = found
                sentence = f"{run.label} {' '.join(filter(None, (rule.name, when)))}: {why}."
                verdicts.append(Verdict(run.name, run.seed, rule.name, sentence, when))
    return verdicts, not_made


def conclusion(runs: list[Run]) -> list[str]:
    """What the runs say: the answer, a paragraph, and then single sentences. The same for terminal, table and page."""
    verdicts, not_made = judge(runs)
    answer = [verdict.sentence for verdict in verdicts if verdict.seed is None]
    unknown = [reason for (_, reason), labels in not_made.items() if not labels]
    answer += [f"Which learning rate fits best cannot be said: {reason}." for reason in unknown]
    sentences = [" ".join(answer + what_the_exercise_sees(runs))]
    parts, unmarked = [], []
    for name in dict.fromkeys(run.name for run in runs):
        mine = [v for v in verdicts if v.run == name and v.seed is not None]
        if mine:
            parts.append(f"{name} {in_words(phrases(mine, sum(run.name == name for run in runs)))}")
        else:
            unmarked.append(name)
    parts += [f"no further verdict on {in_words(unmarked)}"] if unmarked else []
    # Not str.capitalize: it would make the rest of the sentence small.
    sentences.append(f"{parts[0][0].upper()}{'; '.join(parts)[1:]}.")
    for name in dict.fromkeys(run.name for run in runs if run.after and not several_levers(runs)):
        seeds = [run for run in runs if run.name == name and run.after]
        # Text i of both began with the same token and was drawn with the same random numbers: they are paired. Of one
        # seed the interval is over the texts, of several over the seeds.
        changes = [np.subtract(run.after["shares"], run.before["shares"]) for run in seeds]
        change = changes[0] if len(changes) == 1 else np.mean(changes, axis=1)
        after = np.mean([run.after["ratio"] for run in seeds])
        sentences.append(
            f"Ratio at {name}: {seeds[0].before['ratio']:.3f} before, {after:.3f} after, a change of "
            f"{signed(change.mean(), t_interval(change))}{f', over {len(seeds)} seeds' * (len(seeds) > 1)}."
        )
    if max(run.result["samples"] for run in runs) < TRIAL:
        sentences.append(f"Only a trial, with fewer than {TRIAL} steps: too few for an outcome.")
    return sentences


def phrases(verdicts: list[Verdict], seeds: int) -> list[str]:
    """What the verdicts on the runs of one name say, each once; with the number of its seeds if they disagree."""
    spoken = []
    for name in dict.fromkeys(verdict.name for verdict in verdicts):
        whens = [verdict.when for verdict in verdicts if verdict.name == name]
        some = f" ({len(whens)} of {seeds} seeds)" if len(whens) < seeds else ""
        spoken.append(f"{name} {whens[0] if len(set(whens)) == 1 else ''}".strip() + some)
    return spoken


def in_words(items: Iterable[str]) -> str:
    """a, b and c"""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
