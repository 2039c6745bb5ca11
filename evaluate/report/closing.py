"""What a command says at its end: table, answer and samples of the writing, in the 80 columns of a terminal."""

import textwrap

from evaluate.rate.session import readable
from evaluate.results import Result, describe, final_loss, lowest_held_out, minutes, own_terms, run_label
from evaluate.table import answer

WIDTH = 80  # columns
LINES = 3  # of each text
GROUPS = {1: "training", 3: "held-out", 6: "ratio"}  # over the columns from this number on
TITLES = ("learning rate", "first", "last", "first", "lowest (at)", "last", "before", "after", "min")


def closing(results: list[Result]) -> str:
    """The `results` (see `find_results`) in lines of at most 80 columns; table.md and report.html have all of it."""
    bent = (
        ""
        if all(map(own_terms, results))
        else ", which only a ratio without top-k at temperature 1 can be held against"
    )
    parts = [
        wrapped(f"What the learning rate does to a fine-tune: {describe(results)}."),
        "",
        *rows_of(results),
        wrapped(
            "Losses in nats per token, the last in training a mean over the last tenth. The book's own ratio: "
            f"{results[0]['book_ratio']:.3f}{bent}."
        ),
        "",
        *map(wrapped, answer(results)),
        "",
        wrapped(f'After "{one_line(results[0]["prompts"][0])}"'),
        *texts_of(results),
    ]
    return "\n".join(parts)


def wrapped(text: str) -> str:
    """`text` in lines; what is an item of a list is indented."""
    return textwrap.fill(text, WIDTH, subsequent_indent="  " if text.startswith("- ") else "")


def rows_of(results: list[Result]) -> list[str]:
    """The table: two lines of titles, then a line for each run."""
    rows = [TITLES, *(row_of(result, results) for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else " "
    top = ""
    for i, title in GROUPS.items():
        top = f"{top:<{sum(widths[:i]) + i * len(gap)}}{title}"
    lines = [gap.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return [top, *lines]


def row_of(result: Result, results: list[Result]) -> tuple[str, ...]:
    losses, held_out, after = result["train_loss"], result["held_out_loss"], result["after"]
    sample, lowest = lowest_held_out(result) if held_out else (0, 0.0)
    return (
        run_label(result, results),
        number(losses[0]) if losses else "-",
        number(final_loss(result)) if after else "diverged",
        number(held_out[0][1]) if held_out else "-",
        f"{number(lowest)} ({sample})" if held_out else "-",
        number(held_out[-1][1]) if held_out and after else "-",
        number(result["before"]["ratio"]),
        number(after["ratio"]) if after else "-",
        f"{minutes(result):.1f}",
    )


def number(value: float) -> str:
    return f"{value:.3f}" if value < 100 else f"{value:.3g}"  # an exploded loss may have any size


def texts_of(results: list[Result]) -> list[str]:
    """What the base model, each run and the book write after the first prompt, in up to LINES lines each."""
    written = [("before", results[0]["before"])]
    written += [(run_label(result, results), result["after"]) for result in results if result["after"]]
    written.append(("the book", results[0]["book"]))
    indent = max(len(name) for name, _ in written) + 2
    lines = []
    for name, found in written:
        text = one_line("".join(found["continuations"][0]["pieces"]))
        rows = textwrap.wrap(text, WIDTH - indent, max_lines=LINES, placeholder=" ...") or [""]
        lines += [f"{name if i == 0 else '':<{indent}}{row}".rstrip() for i, row in enumerate(rows)]
    return lines


def one_line(text: str) -> str:
    return " ".join(readable(text).split())
