"""The table over the learning rates, and the answer that its numbers give."""

import numpy as np

from evaluate.ratio import bootstrap_interval
from evaluate.results import describe, final_loss, lr_label


def table(results: list[dict]) -> str:
    """A Markdown table, one learning rate a row, of `results` sorted as `find_results` does."""
    lines = [
        f"What the learning rate does to a fine-tune: {describe(results[0])}.",
        "",
        "| learning rate | loss, first sample | loss, last tenth | ratio before (95 %) | ratio after (95 %) | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        after = ratio_with_interval(result["after"]) if result["after"] else "diverged"
        loss = f"{final_loss(result):.3f}" if result["after"] else f"not finite from sample {len(result['train_loss']) + 1}"
        first = f"{result['train_loss'][0]:.3f}" if result["train_loss"] else ""
        minutes = sum(result["environment"]["seconds"].values()) / 60
        before = ratio_with_interval(result["before"])
        lines.append(f"| {lr_label(result['lr'])} | {first} | {loss} | {before} | {after} | {minutes:.1f} |")
    lines += ["", f"The book's own tokens: {results[0]['book_ratio']:.3f}. Loss in nats per token.", "", *answer(results)]
    return "\n".join(lines) + "\n"


def ratio_with_interval(measured: dict) -> str:
    low, high = measured["ratio_ci"]
    return f"{measured['ratio']:.3f} ({low:.3f} to {high:.3f})"


def answer(results: list[dict]) -> list[str]:
    """What the numbers say, in sentences; what lies within the noise is said to do so."""
    sentences = [
        f"At {lr_label(result['lr'])} the training diverged: the loss is not a finite number."
        for result in results
        if not result["after"]
    ]
    results = [result for result in results if result["after"]]
    if not results:
        return sentences
    by_loss = sorted(results, key=final_loss)
    sentences.append("Training loss at the end: " + " < ".join(f"{lr_label(r['lr'])} ({final_loss(r):.3f})" for r in by_loss) + ".")
    for result in results:
        change, (low, high) = paired_difference(result["before"], result["after"])
        book = result["book_ratio"]
        verdict = "no change beyond the noise"
        if low > 0 or high < 0:
            nearer = abs(result["after"]["ratio"] - book) < abs(result["before"]["ratio"] - book)
            verdict = f"{'nearer to' if nearer else 'farther from'} the book's {book:.3f}"
        sentences.append(f"Ratio at {lr_label(result['lr'])}: {change:+.3f} ({low:+.3f} to {high:+.3f}), {verdict}.")
    for one, other in zip(results, results[1:]):
        change, (low, high) = paired_difference(other["after"], one["after"])
        verdict = "a difference" if low > 0 or high < 0 else "within the noise"
        sentences.append(
            f"Ratio at {lr_label(one['lr'])} against {lr_label(other['lr'])}: "
            f"{change:+.3f} ({low:+.3f} to {high:+.3f}), {verdict}."
        )
    return [f"- {sentence}" for sentence in sentences]


def paired_difference(first: dict, second: dict) -> tuple[float, tuple[float, float]]:
    """Mean of second - first over the sequences, with its 95 % interval.

    Sequence i of both began with the same token and the same luck: what the two have in common
    cancels, and the interval is that of the difference itself.
    """
    difference = np.array(second["shares"]) - np.array(first["shares"])
    return float(difference.mean()), bootstrap_interval(difference)
