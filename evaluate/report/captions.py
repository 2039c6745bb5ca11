"""What was done, and what to see in each figure: sentences with the numbers of these runs.

Of several seeds a number is the mean over those that finished.
"""

from collections.abc import Callable

import numpy as np

from evaluate.report.verdicts import at_samples, in_words, percent
from evaluate.results import Result, final_loss, lowest_held_out, lr_label, own_terms_label, part_measured, path


def what_was_done(results: list[Result]) -> str:
    first, lrs = results[0], sorted({result["lr"] for result in results})
    settings, seeds = first["settings"], len({result["seed"] for result in results})
    rates = f"{len(lrs)} learning rates from {lr_label(lrs[0])} to {lr_label(lrs[-1])}"
    held_out = (
        f"{first['held_out_tokens']:,} of the book's {first['book_tokens']:,} tokens were kept out of the training"
    )
    return (
        f"A language model, {settings['model_name']} with {settings['model_identity']['parameters'] / 1e6:.3g} million "
        f"parameters, was trained on {settings['text_name']}{' as served' if settings['raw_text'] else ''} for "
        f"{first['samples']} samples of {settings['batch_size']} x {settings['seq_len']} tokens, one optimizer step "
        f"each, at {rates if len(lrs) > 1 else f'the learning rate {lr_label(lrs[0])}'}"
        f"{f', with {seeds} seeds' if seeds > 1 else ''}; "
        f"{f'the last {held_out}' if first['held_out_tokens'] else 'nothing was kept out of the training'}. "
        f"{part_measured(first)}".rstrip()
    )


def by_rate(results: list[Result]) -> dict[str, list[Result]]:
    """The finished runs of each learning rate, the largest rate first."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result["after"]:
            groups.setdefault(lr_label(result["lr"]), []).append(result)
    return groups


def mean(runs: list[Result], value: Callable[[Result], float]) -> float:
    return float(np.mean([value(run) for run in runs]))


def each(
    results: list[Result], value: Callable[[Result], float], write: Callable[[float], str] = "{:.3f}".format
) -> str:
    """The `value` of every learning rate: "0.846 at 3e-3, 2.177 at 3e-4 and 3.540 at 3e-5"."""
    return in_words([f"{write(mean(runs, value))} at {lr}" for lr, runs in by_rate(results).items()])


def lowest(results: list[Result], value: Callable[[Result], float]) -> str:
    """The learning rate with the lowest `value`."""
    groups = by_rate(results)
    return min(groups, key=lambda lr: mean(groups[lr], value))


def from_the_book(result: Result) -> float:
    """How far the ratio is from the book's, both drawn on the same terms."""
    return abs(result["after"]["untruncated_ratio"] - result["book_ratio"])


def sees(results: list[Result]) -> list[str]:
    gone = [lr_label(result["lr"]) for result in results if not result["after"]]
    sentences = [f"Diverged, with nothing to show after: {in_words(dict.fromkeys(gone))}."] if gone else []
    if not by_rate(results):
        return sentences
    first, *_ = (result for result in results if result["after"])
    bent = next(filter(None, map(own_terms_label, results)), "")
    sentences.append(
        f"The training loss begins at {first['train_loss'][0]:.3f} and is, over the last tenth, {each(results, final_loss)}."
    )
    ratios = each(results, lambda r: r["after"]["ratio"])
    sentences.append(f"The ratio was {first['before']['ratio']:.3f} before and is {ratios}.")
    if bent:
        marks = each(results, lambda r: r["after"]["untruncated_ratio"])
        sentences.append(f"Only the marks ({bent}) can be held against the book's {first['book_ratio']:.3f}: {marks}.")
    if len(by_rate(results)) > 1:
        best, nearest = lowest(results, final_loss), lowest(results, from_the_book)
        if best == nearest:
            sentences.append(
                f"By this figure alone {best} would be the best: its loss is the lowest, and its ratio ends nearest to "
                f"the book's {first['book_ratio']:.3f}."
            )
        else:
            sentences.append(
                f"The loss is lowest at {best}; the ratio ends nearest to the book's {first['book_ratio']:.3f} at {nearest}."
            )
    return sentences


def last_held_out(result: Result) -> float:
    return result["held_out_loss"][-1][1]


def turns(results: list[Result]) -> list[str]:
    """The way of each learning rate's held-out loss: where it is lowest, and where it ends."""
    found, worse = [], {}
    for lr, runs in by_rate(results).items():
        lows = list(map(lowest_held_out, runs))
        samples, low = sorted({sample for sample, _ in lows}), float(np.mean([loss for _, loss in lows]))
        last = f"{mean(runs, last_held_out):.3f}"
        if samples == [0]:
            worse[lr] = last
        elif samples == [runs[0]["held_out_loss"][-1][0]]:
            found.append(f"at {lr} it falls to the end, to {last}")
        else:
            found.append(f"at {lr} it is lowest at {at_samples(samples)} with {low:.3f} and ends at {last}")
    if worse:
        ends = in_words(worse.values())
        found.insert(0, f"at {in_words(worse)} it is never again as low as before the first step and ends at {ends}")
    return found


def hides(results: list[Result]) -> list[str]:
    if not by_rate(results):
        return []
    first = results[0]["held_out_loss"][0][1]
    gaps = each(results, lambda r: last_held_out(r) - final_loss(r))
    sentences = [
        f"The loss on text that is never trained on begins at {first:.3f}: {'; '.join(turns(results))}.",
        f"The gap between held-out and training loss is what holds for the training text alone; at the end it is {gaps}.",
    ]
    if len(by_rate(results)) > 1:
        sentences.append(f"By this figure {lowest(results, last_held_out)} ends best.")
    return sentences


def valley(results: list[Result]) -> list[str]:
    base = results[0]["held_out_loss"][0][1]
    worse = [lr for lr, runs in by_rate(results).items() if mean(runs, last_held_out) > base]
    sentences = [
        f"The held-out loss at the end is {each(results, last_held_out)}; the base model's, dotted, {base:.3f}."
    ]
    return sentences + ([f"Above it, and so worse than before the training: {in_words(worse)}."] if worse else [])


def forgetting(results: list[Result]) -> list[str]:
    moved = [result for result in results if len(path(result, "kl")) > 1]
    sentences = ["A path to the left learns the book, a path upwards forgets what the base model knew."]
    if by_rate(moved):
        ends = each(moved, lambda r: path(r, "kl")[-1][0])
        sentences.append(f"At the end the predictions have moved by {ends} nats per token.")
    return sentences


def copying(results: list[Result]) -> list[str]:
    moved, base = [result for result in results if len(path(result, "copied")) > 1], results[0]["before"]["copied"]
    if not by_rate(moved):
        return []
    ends = each(moved, lambda r: path(r, "copied")[-1][0], percent)
    return [f"At the end the copied share is {ends}; the base model's is {percent(base)}."]


def weights(results: list[Result]) -> list[str]:
    spans = []
    for lr, runs in by_rate(results).items():
        shares = np.mean([list(run["after"]["weight_change"].values()) for run in runs], axis=0)
        spans.append(f"{100 * shares.min():.2g} to {100 * shares.max():.2g} % at {lr}")
    return [f"Every part of the model moved by {in_words(spans)} (the axis is logarithmic)."]


CAPTIONS: dict[str, Callable[[list[Result]], list[str]]] = {  # by the stem of the figure's file
    "learning_rates": sees,
    "held_out_loss": hides,
    "final_held_out_loss": valley,
    "learning_and_forgetting": forgetting,
    "copying": copying,
    "weight_change": weights,
}


def caption(figure: str, results: list[Result]) -> str:
    """What to see in the figure of this name. The held-out ones are of those runs that had something held out."""
    if figure in ("held_out_loss", "final_held_out_loss"):
        results = [result for result in results if result["held_out_loss"]]
    return " ".join(CAPTIONS[figure](results))
