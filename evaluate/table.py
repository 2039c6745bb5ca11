"""The table over the learning rates, and the answer that its numbers give."""

from evaluate.report.chance import over_seeds, sampling_noise, training_noise
from evaluate.report.verdicts import judge
from evaluate.results import (
    Result,
    describe,
    final_loss,
    lowest_held_out,
    minutes,
    own_terms,
    paired_difference,
    part_measured,
    run_label,
)

TABLE_FILE = "table.md"
LOSS_VERDICTS = ("takes too large a step", "learns", "over-fits", "ends worse than it began")


def table(results: list[Result]) -> str:
    """A Markdown table, one learning rate a row, of `results` sorted as `find_results` does."""
    held_out = any(result["held_out_loss"] for result in results)
    titles = ["learning rate", "training loss: first", "last tenth"]
    titles += ["held-out loss: first", "lowest (at sample)", "last"] if held_out else []
    bent = not all(map(own_terms, results))
    titles += ["ratio before (95 %)", "ratio after (95 %)", *(["after, without top-k"] if bent else []), "minutes"]
    rows = [titles, ["---"] * len(titles)]
    for result in results:
        losses = result["train_loss"]
        row = [run_label(result, results), f"{losses[0]:.3f}" if losses else ""]
        row.append(f"{final_loss(result):.3f}" if result["after"] else f"not finite after sample {len(losses)}")
        if held_out and not result["held_out_loss"]:
            row += ["", "", ""]
        elif held_out:
            sample, lowest = lowest_held_out(result)
            row += [f"{result['held_out_loss'][0][1]:.3f}", f"{lowest:.3f} ({sample})"]
            row.append(f"{result['held_out_loss'][-1][1]:.3f}")
        row.append(ratio_with_interval(result["before"]))
        row.append(ratio_with_interval(result["after"]) if result["after"] else "diverged")
        row += [f"{result['after']['untruncated_ratio']:.3f}" if result["after"] else ""] if bent else []
        rows.append([*row, f"{minutes(result):.1f}"])
    lines = [
        f"What the learning rate does to a fine-tune: {describe(results)}.",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"The book's own tokens: {results[0]['book_ratio']:.3f}. Losses in nats per token."
        + (" Only the ratio without top-k, at temperature 1, can be held against the book's." if bent else ""),
        *filter(None, [part_measured(results[0])]),
        "",
        *answer(results),
        "",
        *over_seeds(results),
        "What loss and ratio cannot show; evaluate/measures/README.md says what each measure means:",
        "",
        *beyond(results),
    ]
    return "\n".join(lines) + "\n"


def beyond(results: list[Result]) -> list[str]:
    """A second table: copying, forgetting and variety, with the base model and the book as yardsticks."""
    titles = ["", "held-out perplexity", "expected ratio", "divergence from the book (bits)"]
    titles += ["copied (%)", "longest copy (tokens)", "KL from the base model (nats)"]
    titles += ["distinct-2", "repeated 4-grams (%)"]
    rows = [titles, ["---"] * len(titles)]
    measured = [("base model", results[0]["before"])]
    measured += [(run_label(result, results), result["after"]) for result in results if result["after"]]
    if "divergence" in results[0]["book"]:  # something is held out, and long enough
        measured.append(("the book, held out", results[0]["book"]))
    for name, found in measured:
        # The book as its own imitator has no loss, no expected ratio and nothing to forget.
        perplexity = (found.get("held_out") or {}).get("perplexity")
        kl = found["forgetting"]["base_texts"]["kl"] if "forgetting" in found else None
        rows.append(
            [
                name,
                "" if perplexity is None else f"{perplexity:.4g}",
                f"{found.get('expected_ratio', found['ratio']):.3f}",
                f"{found['divergence']:.4f}",
                f"{100 * found['copied']:.1f}",
                str(found["longest_copy"]["tokens"]),
                "" if kl is None else f"{kl:.3f}",
                f"{found['distinct'][1]:.3f}",
                f"{100 * found['repeated']:.1f}",
            ]
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def ratio_with_interval(measured: dict) -> str:
    low, high = measured["ratio_ci"]
    return f"{measured['ratio']:.3f} ({low:.3f} to {high:.3f})"


def answer(results: list[Result]) -> list[str]:
    """What the numbers say, in sentences; what lies within the noise is said to do so."""
    names = {id(result): run_label(result, results) for result in results}
    differences = sampling_noise(results) + training_noise(results)
    verdicts, _ = judge(results)
    sentences = [
        f"At {names[id(result)]} the training diverged: the loss is not a finite number."
        for result in results
        if not result["after"]
    ]
    results = [result for result in results if result["after"]]
    if not results:
        return [f"- {sentence}" for sentence in sentences]
    by_loss = sorted(results, key=final_loss)
    sentences.append(
        "Training loss at the end: " + " < ".join(f"{names[id(r)]} ({final_loss(r):.3f})" for r in by_loss) + "."
    )
    for result in results:
        mine = [v for v in verdicts if (v.lr, v.seed) == (result["lr"], result["seed"])]
        sentences += [v.sentence for v in mine if v.name in LOSS_VERDICTS]
    for result in results:
        change, (low, high) = paired_difference(result["before"], result["after"])
        sentences.append(
            f"Ratio at {names[id(result)]}: {change:+.3f} ({low:+.3f} to {high:+.3f})"
            f"{'' if low > 0 or high < 0 else ', within the luck of the writing'}. {against_the_book(result)}"
        )
    return [f"- {sentence}" for sentence in sentences + differences]


def against_the_book(result: Result) -> str:
    """Is the model nearer to the book's own ratio than before? By its own probabilities, since a top-k bends the ratio:
    it cuts off the tail, so that a model which had learned the book perfectly would exceed it."""
    before, after = result["before"]["untruncated_ratio"], result["after"]["untruncated_ratio"]
    _, (low, high) = paired_difference(result["before"], result["after"], "untruncated_shares")
    verdict = "no change beyond the noise"
    if low > 0 or high < 0:
        nearer = abs(after - result["book_ratio"]) < abs(before - result["book_ratio"])
        verdict = f"{'nearer to' if nearer else 'farther from'} the book's {result['book_ratio']:.3f}"
    terms = "" if own_terms(result) else " without top-k at temperature 1"
    return f"Expected{terms}: {before:.3f} to {after:.3f}, {verdict}."
