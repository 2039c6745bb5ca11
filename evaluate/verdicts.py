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
from evaluate.results import PLAIN, EvalPoint, Interval, Run, lr_label, paired_difference, run_label, several_levers

LOSS_CHANGE = 0.01  # relative: a held-out loss that changed by less is called unchanged
STANDARD_ERRORS = 2.0  # between the means of two learning rates, if both were run with several seeds
VALLEY = 0.03  # nats per token
AS_GOOD = 5  # runs that are named as good within the noise, at most
VALLEYS = (
    "The width of the valley is the factor between the smallest and the largest rate whose held-out loss at the end "
    f"lies within {VALLEY:g} nats of the best of all"
)
SPIKE, IN_A_ROW = 0.2, 5  # nats per token, the mean training loss over five steps


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


def held_out_loss(run: Run, when: str) -> float:
    """The loss on the held-out text "before" or "after" training, in nats per token."""
    if run.result[when]["held_out"] is None:
        raise NotMeasured("nothing was held out")
    return run.result[when]["held_out"]["loss"]


def during_training(run: Run) -> list[tuple[int, float]]:
    if len(run.held_out) < 2:
        raise NotMeasured("no held-out loss during training")
    return run.held_out


def percent_with_interval(share: float, interval: Interval) -> str:
    return f"{100 * share:.1f} % ({100 * interval[0]:.1f} to {100 * interval[1]:.1f} %)"


def diverged(run: Run) -> Found:
    if run.after:
        return None
    return (f"after step {len(run.train_loss)}", "the loss is not a finite number from there on")


def loss_spike(run: Run) -> tuple[int, int] | None:
    """Where the training loss rose above its first value: (the last of the five steps whose mean is highest, the step
    at which it was back, one beyond the last if never); None if it did not rise."""
    losses = np.array(run.train_loss)
    if len(losses) < IN_A_ROW:
        return None
    means = np.convolve(losses, np.full(IN_A_ROW, 1 / IN_A_ROW), "valid")  # the i-th: of steps i + 1 to i + 5
    highest = int(np.argmax(means))
    if means[highest] <= losses[0] + SPIKE:
        return None
    back = np.flatnonzero(means[highest:] <= losses[0])
    return highest + IN_A_ROW, highest + int(back[0]) + IN_A_ROW if len(back) else len(losses) + 1


def too_large_a_step(run: Run) -> Found:
    if (found := loss_spike(run)) is None:
        return None
    highest, back = found
    losses = run.train_loss
    rise = (
        f"training loss {losses[0]:.3f} at the first step, {np.mean(losses[highest - IN_A_ROW : highest]):.3f} over "
        f"steps {highest - IN_A_ROW + 1} to {highest}"
    )
    return ("", rise + (f", back at the first's by step {back}" if back <= len(losses) else ", and never back"))


def over_fits(run: Run) -> Found:
    # A spike raises the held-out loss too, and that is no over-fitting: only what follows its recovery counts.
    recovered = (loss_spike(run) or (0, 0))[1]
    measured = [pair for pair in during_training(run) if pair[0] >= recovered]
    if not measured:
        return None
    steps, losses = zip(*measured)
    lowest = int(np.argmin(losses))
    since = steps[lowest]
    # The ten batches around it; before the first step there is one training loss to compare with, the first batch's.
    around = slice(since - 5, since + 5) if since > 5 else slice(0, since + 1)
    if losses[-1] <= (1 + LOSS_CHANGE) * losses[lowest] or run.last_loss >= np.mean(run.train_loss[around]):
        return None
    rise = f"held-out loss {losses[lowest]:.3f} there, {losses[-1]:.3f} at the end"
    return (f"from step {since} on", f"{rise}, while the training loss goes on falling")


def ends_worse(run: Run) -> Found:
    first, last = held_out_loss(run, "before"), held_out_loss(run, "after")
    if last <= (1 + LOSS_CHANGE) * first:
        return None
    return "", f"held-out loss {first:.3f} before, {last:.3f} after"


def copies(run: Run) -> Found:
    mine, base = ((measured["copied"], measured["copied_ci"]) for measured in (run.after, run.before))
    if mine[1][0] <= base[1][1]:
        return None
    shares = percent_with_interval(*mine), percent_with_interval(*base)
    return ("", f"{shares[0]} of its tokens lie in copied runs; base model: {shares[1]}")


def memorised(run: Run) -> Found:
    mine, base = run.after["extraction"], run.before["extraction"]
    if mine["training_ci"] is None or mine["held_out_ci"] is None:
        raise NotMeasured("too little text for extraction was trained on or held out")
    if mine["training_ci"][0] <= max(mine["held_out_ci"][1], base["training_ci"][1]):
        return None
    return (
        "",
        f"after prompts from the training text {percent_with_interval(mine['training'], mine['training_ci'])} of its "
        "tokens are the book's own next ones, after held-out prompts "
        f"{percent_with_interval(mine['held_out'], mine['held_out_ci'])}; base model, training text: "
        f"{percent_with_interval(base['training'], base['training_ci'])}",
    )


def ended_early(run: Run) -> Found:
    patience, steps = run.result["settings"].get("patience"), len(run.train_loss)
    if not patience or steps == run.result["samples"]:
        return None
    reason = f"the held-out loss had not fallen for {patience} measurements"
    return (f"after step {steps}, as {reason}", f"{run.result['samples']} steps were asked for")


ONE_PERCENT = f"{100 * LOSS_CHANGE:g} %"
RULES = (
    Rule(  # the only one for a run without a model
        "diverged", "The training loss was no longer a finite number. Such a run has no model.", diverged
    ),
    Rule(
        "takes too large a step",
        f"The mean training loss of some {IN_A_ROW} steps in a row is more than {SPIKE:g} nats above that of the first "
        "step.",
        too_large_a_step,
    ),
    Rule(
        "over-fits",
        f"At the end the held-out loss is more than {ONE_PERCENT} above its lowest value, and the training loss is "
        "lower than it was there. After too large a step, only what follows its recovery counts.",
        over_fits,
    ),
    Rule(
        "ends worse than it began",
        f"The held-out loss at the end is more than {ONE_PERCENT} above that of the base model.",
        ends_worse,
    ),
    Rule(
        "copies",
        "The interval of the copied share lies wholly above that of the base model, which was not trained on the text.",
        copies,
    ),
    Rule(
        "has memorised passages",
        "It continues prompts as the book does more often for the training text than for the held-out text, and more "
        "often than the base model: the first interval lies wholly above the two others.",
        memorised,
    ),
    Rule("ended early", "As many measurements of the held-out loss as --patience says did not lower it.", ended_early),
)
FITS_BEST = (
    "fits best",
    "The lowest held-out loss, stopped in time. The first half of the held-out text chooses the step of each run, and "
    "by the mean over seeds the rate; the second half reports. There another one, or the base model, is as good within "
    f"the noise if its mean is less than {STANDARD_ERRORS:g} standard errors of the gap higher (a rough rule with two "
    f"or three seeds); with one seed, if its loss is less than {ONE_PERCENT} higher.",
)


def fits_best(runs: list[Run]) -> Verdict:
    """Which learning rate fits best if it is stopped in time, which are as good within the noise, and what to try."""
    points: dict[str, list[EvalPoint]] = {}
    for run in runs:
        if run.stopped_in_time is None:
            raise NotMeasured("nothing was held out")
        points.setdefault(run.name, []).append(run.stopped_in_time)
    best = min(points, key=lambda name: np.mean([point["held_out_halves"][0] for point in points[name]]))
    steps = {name: [point["sample"] for point in stopped] for name, stopped in points.items()}
    if not any(steps[best]):
        nothing = "No rate gains anything on this text: the base model fits best."
        return Verdict(None, None, "the base model fits best", nothing)

    losses = {name: [point["held_out_halves"][1] for point in stopped] for name, stopped in points.items()}
    loss, base = float(np.mean(losses[best])), runs[0].result["checkpoints"][0]["held_out_halves"][1]
    own = [run for run in runs if run.name == best]
    lr, lever, trained = own[0].lr, own[0].lever, [len(run.train_loss) for run in own]
    several, levers = len(points) > 1, several_levers(runs)
    lrs = {run.lr for run in runs if run.lever == lever or not levers}
    chosen = in_words(["the lever"] * levers + ["the rate"] * (len({run.lr for run in runs}) > 1) + ["the step"])
    seeds = f", mean of {len(losses[best])} seeds" if len(losses[best]) > 1 else ""
    sentences = [
        f"Stopped in time, {best} {'fits best: it ' * several}reaches a loss of {loss:.3f} (perplexity "
        f"{perplexity(loss)}{seeds}) at {place(steps[best])} ({own[0].readings(np.mean(steps[best])):.1f} readings of "
        f"the training text), {'down from' if loss < base else 'the base model has'} {base:.3f}.",
        f"The first half of the held-out text chose {chosen}, the second half reports.",
    ]
    as_good = []
    for name in points:
        if name != best and any(steps[name]) and within_noise(losses[best], losses[name]):
            times = float(np.mean(steps[name]) / np.mean(steps[best]))
            when = f"{max(times, 1 / times):.1f}".removesuffix(".0") + f" times as {'soon' if times < 1 else 'late'}"
            as_good.append(f"{name} at {place(steps[name])}, {'as soon' if times == 1 else when}")
    if within_noise(losses[best], [base] * len(losses[best])):
        as_good.append("the base model")
    as_good[AS_GOOD:] = [f"and {len(as_good) - AS_GOOD} more"] if len(as_good) > AS_GOOD else []
    if as_good:
        sentences.append(f"As good within the noise: {'; '.join(as_good)}.")
    if useless := [name for name in points if not any(steps[name])]:
        sentences.append(f"Nothing is gained at {in_words(useless)}.")
    for word, end, way in (("largest", max(lrs), 1), ("smallest", min(lrs), -1)):
        if len(lrs) > 1 and lr == end:
            further = 10 ** ((round(2 * math.log10(lr)) + way) / 2)  # the next of 1, 3, 10, 30, ...
            further = run_label(float(f"{further:.0e}"), 0, False, lever)
            sentences.append(f"{best} is the {word} rate: try {further} too.")
    if steps[best] == trained:
        sentences.append(f"The loss was still falling at the end: try more than {max(trained)} steps.")
    verdict = f"fits best{', but within the noise' if as_good else ''}"
    return Verdict(best if several else None, None, verdict, " ".join(sentences))


def within_noise(best: list[float], other: list[float]) -> bool:
    """Whether `other` losses, one for each seed, are higher than the `best` ones by no more than chance explains."""
    several = min(len(best), len(other)) > 1
    noise = STANDARD_ERRORS * error_of_gap(best, other) if several else LOSS_CHANGE * np.mean(best)
    return bool(np.mean(other) - np.mean(best) < noise)


def error_of_gap(a: list[float], b: list[float]) -> float:
    """Standard error of the difference of two means, whose variances may differ (Welch 1947)."""
    return float((np.var(a, ddof=1) / len(a) + np.var(b, ddof=1) / len(b)) ** 0.5)


def place(steps: list[int]) -> str:
    first, last = min(steps), max(steps)
    return f"step {first}" if first == last else f"steps {first} to {last}"


def what_the_exercise_sees(runs: list[Run]) -> list[str]:
    """Which learning rates the exercise's own numbers would choose; nothing if fewer than two finished."""
    book, kind = runs[0].result["book_ratio"], " without top-k" if runs[0].truncated else ""
    seen: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        if run.after:
            seen.setdefault(run.name, []).append((run.last_loss, run.after["untruncated_ratio" if kind else "ratio"]))
    if len(seen) < 2:
        return []
    means = [(name, *np.mean(numbers, axis=0)) for name, numbers in seen.items()]
    by_loss, loss, _ = min(means, key=lambda mean: mean[1])
    by_ratio, _, ratio = min(means, key=lambda mean: abs(mean[2] - book))
    return [
        f"The exercise's own numbers, at the end, would choose {by_loss} by training loss ({loss:.3f}) and "
        f"{by_ratio} by ratio{kind} ({ratio:.3f}, the book's own is {book:.3f})."
    ]


def valleys(runs: list[Run]) -> list[list[str]]:
    """A table over the levers: the titles, and of each lever the lowest held-out loss at the end (the mean over the
    seeds), its rate, and how wide the valley is. Empty if there is one lever, or nothing was held out."""
    ends: dict[tuple[str, float], list[float]] = {}
    for run in runs:
        if run.held_out:
            ends.setdefault((run.lever, run.lr), []).append(run.end)
    means = {key: float(np.mean(losses)) for key, losses in ends.items()}
    rows = [["lever", "lowest held-out loss at the end", "its rate", "width of the valley"]]
    for lever in dict.fromkeys(lever for lever, _ in means):
        of = {lr: mean for (other, lr), mean in means.items() if other == lever}
        low, within = min(of, key=of.get), sorted(lr for lr in of if of[lr] <= min(means.values()) + VALLEY < math.inf)
        rates = " to ".join(dict.fromkeys(map(lr_label, within[:1] + within[-1:])))
        width = f"{within[-1] / within[0]:.1f}".removesuffix(".0") + f" ({rates})" if within else "none"
        rows.append([lever or PLAIN, f"{of[low]:.3f}".replace("inf", "diverged"), lr_label(low), width])
    return rows if means and several_levers(runs) else []


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
    parts += [f"no other rule applies to {in_words(unmarked)}"] if unmarked else []
    # Not str.capitalize: it would make the rest of the sentence small.
    sentences.append(f"{parts[0][0].upper()}{'; '.join(parts)[1:]}.")
    if rows := valleys(runs)[1:]:
        sentences.append(f"{VALLEYS}: {'; '.join(f'{row[0]}, {row[-1]}' for row in rows)}.")
    for run in runs:
        if run.after and not rows:  # of all levers there would be too many; the table has their ratios
            change, (low, high) = paired_difference(run.before, run.after)
            noise = "" if low > 0 or high < 0 else ", within the noise of the writing"
            sentences.append(
                f"Ratio at {run.label}: {run.before['ratio']:.3f} before, {run.after['ratio']:.3f} after, a change of "
                f"{change:+.3f} ({low:+.3f} to {high:+.3f}){noise}."
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
