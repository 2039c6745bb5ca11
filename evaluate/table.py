"""The table over the learning rates, and the answer that its numbers give."""

import numpy as np

from evaluate.ratio import bootstrap_interval
from evaluate.results import describe, final_loss, lr_label, over_fitted_since

TABLE_FILE = "table.md"


def table(results: list[dict]) -> str:
    """A Markdown table, one learning rate a row, of `results` sorted as `find_results` does."""
    held_out = any(result.get("held_out_loss") for result in results)
    titles = ["learning rate", "training loss: first", "last tenth"]
    titles += ["held-out loss: first", "lowest (at sample)", "last"] if held_out else []
    titles += ["ratio before (95 %)", "ratio after (95 %)", "minutes"]
    rows = [titles, ["---"] * len(titles)]
    for result in results:
        losses = result["train_loss"]
        row = [lr_label(result["lr"]), f"{losses[0]:.3f}" if losses else ""]
        row.append(f"{final_loss(result):.3f}" if result["after"] else f"not finite after sample {len(losses)}")
        if held_out and not result.get("held_out_loss"):
            row += ["", "", ""]
        elif held_out:
            lowest = min(result["held_out_loss"], key=lambda pair: pair[1])
            row += [f"{result['held_out_loss'][0][1]:.3f}", f"{lowest[1]:.3f} ({lowest[0]})"]
            row.append(f"{result['held_out_loss'][-1][1]:.3f}")
        row.append(ratio_with_interval(result["before"]))
        row.append(ratio_with_interval(result["after"]) if result["after"] else "diverged")
        rows.append([*row, f"{sum(result['environment']['seconds'].values()) / 60:.1f}"])
    lines = [
        f"What the learning rate does to a fine-tune: {describe(results[0])}.",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"The book's own tokens: {results[0]['book_ratio']:.3f}. Losses in nats per token.",
        "",
        *answer(results),
    ]
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
    sentences.append(
        "Training loss at the end: " + " < ".join(f"{lr_label(r['lr'])} ({final_loss(r):.3f})" for r in by_loss) + "."
    )
    for result in results:
        sample = over_fitted_since(result)
        if sample is not None:
            losses = dict(result["held_out_loss"])
            sentences.append(
                f"At {lr_label(result['lr'])} it over-fits from sample {sample} on: the held-out loss rises from "
                f"{losses[sample]:.3f} to {losses[result['samples']]:.3f} while the training loss goes on falling."
            )
        elif result.get("held_out_loss") and result["held_out_loss"][-1][1] > 1.01 * result["held_out_loss"][0][1]:
            first, last = result["held_out_loss"][0][1], result["held_out_loss"][-1][1]
            sentences.append(
                f"At {lr_label(result['lr'])} the model ends worse than it began: held-out loss {first:.3f} before, "
                f"{last:.3f} after."
            )
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
