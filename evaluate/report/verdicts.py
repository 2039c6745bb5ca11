"""What the figures of a sweep say: verdicts by stated rules on stated figures, each with its threshold named here.

Every function here is a function of result files alone. A verdict whose figures are missing (nothing
held out, a book too short) is not made, and `judge` says which those are.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from data.settings import TRIAL
from evaluate.measures.copying import BY_THE_AUTHOR, LEAST
from evaluate.results import Result, final_loss, lowest_held_out, lr_label, paired_difference, run_label

LOSS_CHANGE = 0.01  # relative: a held-out loss that changed by less is called unchanged
STANDARD_ERRORS = 2.0  # between the means of two learning rates, if both were run with several seeds
COPIED = 0.01  # share of the written tokens
FORGETS, FORGETS_MUCH = 0.1, 1.0  # nats per token, KL(base || tuned)
SAME_KL = 0.01  # nats per token
DISTINCT = 0.9  # of the book's own distinct-2, over as many texts
REPEATED = 0.05  # share of 4-grams, above the book's own
EXPLODED = 1.0  # nats per token, training loss
SHOCK, IN_A_ROW = 0.2, 5  # nats per token, the mean training loss over so many samples


class NotMeasured(Exception):
    """A figure that a verdict needs is not in the result."""


@dataclass(frozen=True)
class Verdict:
    lr: float
    seed: int | None  # None: of all seeds of this learning rate
    name: str  # what the learning rate does: "copies"
    sentence: str  # with the figures
    when: str = ""  # completes the name: "from sample 40 on"


@dataclass(frozen=True)
class NotMade:
    name: str  # of the verdict
    run: str  # of which run, "" for all of them
    reason: str


def figure(measured: dict, name: str) -> object:
    """A figure that may be missing: the book may be too short for it, or nothing held out.

    Raises:
        NotMeasured: it is.
    """
    if measured.get(name) is None:
        raise NotMeasured(f"{name} is not in the result")
    return measured[name]


def held_out_loss(result: Result, when: str) -> float:
    """The loss on held-out text "before" or "after" training, in nats per token.

    Raises:
        NotMeasured: nothing was held out.
    """
    if result[when]["held_out"] is None:
        raise NotMeasured("no held-out loss")
    return result[when]["held_out"]["loss"]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def percent_with_interval(share: float, interval: tuple[float, float]) -> str:
    return f"{percent(share)} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f} %)"


# One function for each rule: the verdict's (name, when, the sentence's end), or None where the rule does not hold.
Found = tuple[str, str, str] | None


def diverged(result: Result) -> Found:
    if result["after"]:
        return None
    return "diverged", f"after sample {len(result['train_loss'])}", "the loss is not a finite number from there on"


def exploded(result: Result) -> Found:
    first, last = result["train_loss"][0], final_loss(result)
    if last > first + EXPLODED:
        return "exploded", "", f"training loss {first:.3f} at the first sample, {last:.3f} over the last tenth"
    return None


def shock(result: Result) -> tuple[int, int] | None:
    """Where the training loss rose above its beginning: (the last of the samples whose mean is highest, the sample at
    which it was back, beyond the last one if never); None where it did not."""
    losses = np.array(result["train_loss"])
    if len(losses) < IN_A_ROW:
        return None
    means = np.convolve(losses, np.full(IN_A_ROW, 1 / IN_A_ROW), "valid")  # the i-th: of samples i + 1 to i + 5
    highest = int(np.argmax(means))
    if means[highest] <= losses[0] + SHOCK:
        return None
    back = np.flatnonzero(means[highest:] <= losses[0])
    return highest + IN_A_ROW, highest + int(back[0]) + IN_A_ROW if len(back) else len(losses) + 1


def steps_too_far(result: Result) -> Found:
    found = shock(result)
    if found is None or exploded(result):
        return None
    highest, back = found
    losses = result["train_loss"]
    rise = (
        f"training loss {losses[0]:.3f} at the first sample, {np.mean(losses[highest - IN_A_ROW : highest]):.3f} over "
        f"samples {highest - IN_A_ROW + 1} to {highest}"
    )
    after = f", back at the first's by sample {back}" if back <= len(losses) else ", and never back"
    return "takes too large a step", "", rise + after


def learns(result: Result) -> Found:
    if len(result["held_out_loss"]) < 2:
        raise NotMeasured("no held-out loss during training")
    first, last = result["held_out_loss"][0][1], result["held_out_loss"][-1][0]
    since, lowest = lowest_held_out(result)
    if lowest < (1 - LOSS_CHANGE) * first:
        when = "to the end" if since == last else f"until sample {since}"
        fall = f"held-out loss {first:.3f} before, {lowest:.3f} at sample {since}"
        return "learns", when, f"{fall}{', still falling' if since == last else ', its lowest'}"
    return None


def over_fits(result: Result) -> Found:
    if len(result["held_out_loss"]) < 2:
        raise NotMeasured("no held-out loss during training")
    # What a step too large did to the held-out loss is no over-fitting: that begins when it has recovered.
    recovered = (shock(result) or (0, 0))[1]
    measured = [pair for pair in result["held_out_loss"] if pair[0] >= recovered]
    if not measured:
        return None
    samples, losses = zip(*measured)
    lowest = int(np.argmin(losses))
    since = samples[lowest]
    # The ten batches about it; before the first step there is one training loss to compare with, the first batch's.
    then = slice(since - 5, since + 5) if since > 5 else slice(0, since + 1)
    if losses[-1] > (1 + LOSS_CHANGE) * losses[lowest] and final_loss(result) < np.mean(result["train_loss"][then]):
        rise = f"held-out loss {losses[lowest]:.3f} there, {losses[-1]:.3f} at the end"
        return "over-fits", f"from sample {since} on", f"{rise}, while the training loss goes on falling"
    return None


def ends_worse(result: Result) -> Found:
    first, last = held_out_loss(result, "before"), held_out_loss(result, "after")
    if last > (1 + LOSS_CHANGE) * first:
        return "ends worse than it began", "", f"held-out loss {first:.3f} before, {last:.3f} after"
    return None


def copies(result: Result) -> Found:
    share, interval = result["after"]["copied"], result["after"]["copied_ci"]
    base, base_interval = result["before"]["copied"], result["before"]["copied_ci"]
    if interval[0] > base_interval[1] and share > COPIED:
        mine, of_base = percent_with_interval(share, interval), percent_with_interval(base, base_interval)
        return "copies", "", f"{mine} of its tokens lie in copied runs; base model: {of_base}"
    return None


def memorised(result: Result) -> Found:
    mine, of_base = result["after"]["extraction"], result["before"]["extraction"]
    training, held_out = figure(mine, "training_ci"), figure(mine, "held_out_ci")
    base = figure(of_base, "training_ci")
    if training[0] > max(held_out[1], base[1]):
        found = (
            f"after prompts from the training text {percent_with_interval(mine['training'], training)} "
            "of its tokens are the book's own next ones, after held-out prompts "
            f"{percent_with_interval(mine['held_out'], held_out)}; base model, training text: "
            f"{percent_with_interval(of_base['training'], base)}"
        )
        return "has memorised passages", "", found
    return None


def forgets(result: Result) -> Found:
    of_base_texts = result["after"]["forgetting"]["base_texts"]
    kl, (low, high) = of_base_texts["kl"], of_base_texts["kl_ci"]
    if low > FORGETS:
        name = "forgets much" if low > FORGETS_MUCH else "forgets"
        return name, "", f"{kl:.3f} nats per token ({low:.3f} to {high:.3f}) away from the base model on its own texts"
    return None


def loses_variety(result: Result) -> Found:
    mine, base, book = (
        (figure(measured, "distinct")[1], figure(measured, "repeated"))
        for measured in (result["after"], result["before"], result["book"])
    )
    # Against the base model too: nobody loses what he never had.
    fewer = mine[0] < DISTINCT * book[0] and mine[0] < base[0]
    repeats = mine[1] > book[1] + REPEATED and mine[1] > base[1]
    if fewer or repeats:
        found = (
            f"distinct-2 {mine[0]:.3f} (base model {base[0]:.3f}, book {book[0]:.3f}), "
            f"repeated {percent(mine[1])} (base model {percent(base[1])}, book {percent(book[1])})"
        )
        return "loses variety", "", found
    return None


def sounds(result: Result) -> Found:
    value, (low, high) = result["after"]["divergence"], result["after"]["divergence_ci"]
    base, (base_low, base_high) = result["before"]["divergence"], result["before"]["divergence_ci"]
    if base_low <= high and low <= base_high:
        return None
    name = "sounds more like the book" if high < base_low else "sounds less like the book"
    of_base = f"base model {base:.4f} ({base_low:.4f} to {base_high:.4f})"
    return name, "", f"divergence {value:.4f} bits ({low:.4f} to {high:.4f}), {of_base}"


def indistinguishable(result: Result) -> Found:
    kl = result["after"]["forgetting"]["base_texts"]["kl"]
    first, last = held_out_loss(result, "before"), held_out_loss(result, "after")
    change, (low, high) = paired_difference(result["before"], result["after"])
    if low <= 0 <= high and abs(last - first) < LOSS_CHANGE * first and kl < SAME_KL:
        found = (
            f"ratio {change:+.3f} ({low:+.3f} to {high:+.3f}), held-out loss {first:.3f} before and {last:.3f} "
            f"after, KL {kl:.4f} nats per token"
        )
        return "cannot be told from the base model", "", found
    return None


def trial(result: Result) -> Found:
    if result["samples"] < TRIAL:
        return "is only a trial", "", f"{result['samples']} samples are too few for an outcome"
    return None


RULES_OF_ONE_RUN = (
    (
        "diverged",
        "the training loss was no finite number any more. Such a run has no model; only its length is judged besides.",
        diverged,
    ),
    (
        "exploded",
        f"the training loss over the last tenth is finite, but more than {EXPLODED:g} nat above that of the first "
        "sample.",
        exploded,
    ),
    (
        "takes too large a step",
        f"the mean training loss of some {IN_A_ROW} samples in a row is more than {SHOCK:g} nats above that of the first "
        "sample, and it did not explode.",
        steps_too_far,
    ),
    (
        "learns",
        f"the lowest held-out loss is more than {100 * LOSS_CHANGE:g} % below that of the base model; the sample is named "
        "at which it is lowest.",
        learns,
    ),
    (
        "over-fits",
        f"at the end the held-out loss stands more than {100 * LOSS_CHANGE:g} % above its lowest value, and the training "
        "loss is lower than it was there. After a step too large, only what follows its recovery counts.",
        over_fits,
    ),
    (
        "ends worse than it began",
        f"the held-out loss at the end is more than {100 * LOSS_CHANGE:g} % above that of the base model.",
        ends_worse,
    ),
    (
        "copies",
        f"the whole interval of the copied share (tokens in runs of {LEAST} or more that stand in the training text, "
        f"or of more where {100 * BY_THE_AUTHOR:g} % of the author's own held-out text is in such runs) lies above the "
        f"base model's, which was not trained on it, and the share is over {100 * COPIED:g} %.",
        copies,
    ),
    (
        "has memorised passages",
        "it goes on as the book does more often after prompts from the training text than after prompts from the "
        "held-out text, and than the base model does, which was not trained on it: the interval of the first lies "
        "wholly above those of the others.",
        memorised,
    ),
    (
        "forgets",
        f"the lower end of the interval of KL(base || tuned) on the base model's own texts is above {FORGETS:g} nats "
        f"per token; above {FORGETS_MUCH:g} it forgets much.",
        forgets,
    ),
    (
        "loses variety",
        f"distinct-2 is below {100 * DISTINCT:g} % of the book's own, or the share of repeated 4-grams more than "
        f"{100 * REPEATED:g} percentage points above the book's own; and worse than the base model's.",
        loses_variety,
    ),
    (
        "sounds more or less like the book",
        "the interval of the divergence lies wholly below (more) or above (less) the base model's.",
        sounds,
    ),
    (
        "cannot be told from the base model",
        "the interval of the change of the ratio, text by text, includes zero, the held-out loss changed by less than "
        f"{100 * LOSS_CHANGE:g} %, and KL is below {SAME_KL:g} nats per token.",
        indistinguishable,
    ),
    ("is only a trial", f"fewer than {TRIAL} samples.", trial),
)
FITS_BEST = (
    "fits best",
    "the lowest held-out loss at the end among the runs that finished, the mean over seeds where there are several. "
    f"The runner-up is within the noise if its mean is less than {STANDARD_ERRORS:g} standard errors of the gap away, "
    "where both were run with several seeds (with two or three seeds a rough rule); with one seed, if its loss is less "
    f"than {100 * LOSS_CHANGE:g} % higher.",
)
RULES = (FITS_BEST, *((name, words) for name, words, _ in RULES_OF_ONE_RUN))  # for readers


def fits_best(results: list[Result]) -> Verdict:
    """Which learning rate ends with the lowest held-out loss, and whether the runner-up is within the noise.

    Raises:
        NotMeasured: there are no two learning rates to compare, or they were not measured on the same text.
    """
    finished = [result for result in results if result["after"]]
    if len({result["lr"] for result in finished}) < 2:
        raise NotMeasured("fewer than two learning rates finished")
    if len({(result["held_out_tokens"], result["settings"]["seq_len"]) for result in finished}) > 1:
        raise NotMeasured("the held-out losses are of different texts or windows")
    losses: dict[float, list[float]] = {}
    for result in finished:
        losses.setdefault(result["lr"], []).append(held_out_loss(result, "after"))
    best, second = sorted(losses, key=lambda lr: np.mean(losses[lr]))[:2]
    lowest, next_lowest = float(np.mean(losses[best])), float(np.mean(losses[second]))
    gap = next_lowest - lowest
    if min(len(losses[best]), len(losses[second])) > 1:
        # Welch 1947: the two need not scatter alike.
        error = math.sqrt(sum(np.var(losses[lr], ddof=1) / len(losses[lr]) for lr in (best, second)))
        noise, yardstick = gap < STANDARD_ERRORS * error, f"standard error of the gap between seeds {error:.3f}"
    else:
        noise, yardstick = gap < LOSS_CHANGE * lowest, f"a gap of {100 * gap / lowest:.1f} %"
    seeds = f", mean of {len(losses[best])} seeds" if len(losses[best]) > 1 else ""
    sentence = f"{lr_label(best)} fits best: held-out loss {lowest:.3f} (perplexity {perplexity(lowest)}{seeds})"
    sentence += f", ahead of {lr_label(second)} with {next_lowest:.3f} ({yardstick}"
    sentence += ": within the noise)" if noise else ")"
    sentence += what_stopping_would_change(finished, best)
    firsts = [held_out_loss(result, "before") for result in finished if result["lr"] == best]
    if lowest >= np.mean(firsts):
        sentence += f"; yet it is no better than the base model's {np.mean(firsts):.3f}"
    name = "fits best, but within the noise" if noise else "fits best"
    return Verdict(best, None, name, sentence + ".")


def what_stopping_would_change(finished: list[Result], best: float) -> str:
    """Whether the rate that ends `best` was still falling, and which others were as good before they turned: the second
    half of a sentence. Everything here is as measured on the way, of a long text on a part of it."""
    minima: dict[float, list[tuple[int, float]]] = {}
    if not all(result["held_out_loss"] for result in finished):
        return ""
    lowest = np.mean([result["held_out_loss"][-1][1] for result in finished if result["lr"] == best])
    for result in finished:
        minima.setdefault(result["lr"], []).append(lowest_held_out(result))
    end, found = finished[0]["held_out_loss"][-1][0], ""
    for lr, pairs in minima.items():
        samples, loss = sorted({sample for sample, _ in pairs}), float(np.mean([loss for _, loss in pairs]))
        if lr == best and samples == [end]:
            found = f"; it was still falling at the end{found}"
        elif lr != best and 0 < samples[0] and samples[-1] < end and loss < (1 + LOSS_CHANGE) * lowest:
            found += f"; {lr_label(lr)} was {'better' if loss < (1 - LOSS_CHANGE) * lowest else 'as good'} at {at_samples(samples)} ({loss:.3f})"
    return found


def at_samples(samples: list[int]) -> str:
    """One or several samples, in rising order, as a sentence says where."""
    return f"sample {samples[0]}" if len(samples) == 1 else f"samples {samples[0]} to {samples[-1]}"


def perplexity(loss: float) -> str:
    """exp(loss), with three significant digits or all that stand before the point."""
    if loss > math.log(1e6):
        return "over a million"
    value = math.exp(loss)
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def judge(results: list[Result]) -> tuple[list[Verdict], list[NotMade]]:
    """All verdicts on `results` (see `find_results`), and those that could not be made for lack of figures."""
    verdicts, not_made = [], []
    try:
        verdicts.append(fits_best(results))
    except NotMeasured as reason:
        not_made.append(NotMade("fits best", "", str(reason)))
    for result in results:
        run = run_label(result, results)
        for name, _, rule in RULES_OF_ONE_RUN:
            if not result["after"] and rule not in (diverged, trial):
                continue
            try:
                found = rule(result)
            except NotMeasured as reason:
                not_made.append(NotMade(name, run, str(reason)))
                continue
            if found:
                name, when, why = found
                sentence = f"{run} {' '.join(filter(None, (name, when)))}: {why}."
                verdicts.append(Verdict(result["lr"], result["seed"], name, sentence, when))
    return verdicts, not_made


def answer(results: list[Result], verdicts: list[Verdict], not_made: list[NotMade]) -> list[str]:
    """The sweep in two or three sentences, put together from its verdicts."""
    best = [verdict for verdict in verdicts if verdict.seed is None]
    sentences = [verdict.sentence for verdict in best]
    sentences += [f"Which learning rate fits best cannot be said: {n.reason}." for n in not_made if not n.run]
    parts, unmarked = [], []
    for lr in dict.fromkeys(result["lr"] for result in results):
        seeds = sum(result["lr"] == lr for result in results)
        mine = [v for v in verdicts if v.lr == lr and v.seed is not None and v.name != "is only a trial"]
        if mine:
            parts.append(f"{lr_label(lr)} {in_words(phrases(mine, seeds))}")
        else:
            unmarked.append(lr_label(lr))
    parts += [f"none of the rules below applies to {in_words(unmarked)}"] if unmarked else []
    # Not str.capitalize: it would make the rest of the sentence small.
    sentences.append(f"{parts[0][0].upper()}{'; '.join(parts)[1:]}.")
    trials = list(dict.fromkeys(lr_label(v.lr) for v in verdicts if v.name == "is only a trial"))
    if trials:
        sentences.append(f"Only a trial, with fewer than {TRIAL} samples: {in_words(trials)}.")
    return sentences


def phrases(verdicts: list[Verdict], seeds: int) -> list[str]:
    """What the verdicts on one learning rate say, each once; with the number of its seeds where they disagree."""
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
