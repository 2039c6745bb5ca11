"""A sitting in the terminal: a reader is asked what is open, and every answered pair is saved."""

import json
import os
import re
import shutil
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

from evaluate.rate.contest import Comparison, Contest, checksums
from evaluate.rate.ratings import mend, read_ratings, usable_ratings
from evaluate.rate.statistics import POINTS, QUESTIONS, WORDING

KEYS = "l: left, r: right, t: tie; b: back, the previous answer again; q: quit, all finished pairs are saved"


def session(
    comparisons: list[Comparison],
    contest: Contest,
    done: dict[int, list[str]],
    save: Callable[[Comparison, list[str]], None],
    ask: Callable[[str], str],
    show: Callable[[str], None],
) -> None:
    """Ask for what is open until nothing is, or the reader quits.

    Args:
        done: answers by the number of the comparison, in the order of QUESTIONS; filled in.
        save: called with every answered comparison and its answers, again when a reader went back.
        ask: shows a question and returns what was typed, as `input` does.
        show: shows a text.
    """
    number, given, shown = first_open(comparisons, done), [], None
    while number is not None:
        comparison = comparisons[number]
        if number != shown:
            show(f"\n{f' {number + 1} of {len(comparisons)} ':-^60}\n")
            show(as_shown(contest, comparison, shutil.get_terminal_size().columns))
            shown = number
        question = QUESTIONS[len(given)]
        key = ask(f"{question}: {WORDING[question]} [l, r, t] ").strip().lower()
        if key == "q":
            return
        if key in POINTS:
            given = [*given, key]
        elif key == "b" and given:
            given = given[:-1]
        elif key == "b" and number > 0:  # everything before an open comparison is answered
            number -= 1
            given = done[number][:-1]
        else:
            show("This is the first answer." if key == "b" else KEYS)
        if len(given) == len(QUESTIONS):
            save(comparison, given)
            done[number] = given
            number, given = first_open(comparisons, done), []


def first_open(comparisons: list[Comparison], done: dict[int, list[str]]) -> int | None:
    return next((number for number in range(len(comparisons)) if number not in done), None)


def as_shown(contest: Contest, comparison: Comparison, width: int) -> str:
    """Prompt and both continuations in two columns, `width` characters in all, and no word of who wrote them."""
    column = max(20, (width - 3) // 2)
    texts = (contest.texts[name][comparison.prompt] for name in (comparison.left, comparison.right))
    left, right = (["LEFT" if i == 0 else "RIGHT", "", *wrapped(text, column)] for i, text in enumerate(texts))
    rows = (f"{a:<{column}} | {b}".rstrip() for a, b in zip_longest(left, right, fillvalue=""))
    return "\n".join([*wrapped(contest.prompts[comparison.prompt], 2 * column + 3), "", *rows, ""])


def wrapped(text: str, width: int) -> list[str]:
    return [row for paragraph in readable(text).split("\n") for row in textwrap.wrap(paragraph, width) or [""]]


def readable(text: str) -> str:
    """`text` without its line ends, which the book has and columns have no room for; paragraphs stay apart."""
    # A model may write any character, and some of them would command the terminal.
    plain = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", plain))
    return "\n\n".join(filter(None, paragraphs))


def rate(contest: Contest, comparisons: list[Comparison], rater: str, file: Path, shortage: str) -> None:
    """One sitting of `rater` in the terminal; the answers go to `file`, after those that are there.

    Args:
        shortage: what to say if the comparisons are too few for a verdict.

    Raises:
        ValueError, OSError: `file` is damaged or cannot be written to.
    """
    earlier, notes = usable_ratings(read_ratings([file]) if file.exists() else [], contest)
    for note in notes:
        print(f"note: {note}")
    answered = {tuple(r[key] for key in Comparison._fields): r["answers"] for r in earlier if r["rater"] == rater}
    done = {n: [answered[c][q] for q in QUESTIONS] for n, c in enumerate(comparisons) if c in answered}
    with file.open("a", encoding="utf-8") as ratings:
        mend(file)

        def save(comparison: Comparison, given: list[str]) -> None:
            rating = {"rater": rater} | comparison._asdict() | {"answers": dict(zip(QUESTIONS, given))}
            rating |= checksums(contest, *comparison[:3])
            rating["time"] = datetime.now(UTC).isoformat(timespec="seconds")
            ratings.write(json.dumps(rating) + "\n")
            ratings.flush()
            os.fsync(ratings.fileno())

        print(f"{len(comparisons)} comparisons, {len(done)} of them answered. {KEYS}. {shortage}".strip())
        try:
            session(comparisons, contest, done, save, input, print)
        except (KeyboardInterrupt, EOFError):
            print()
    print(f"{len(done)} of {len(comparisons)} answered and saved.", end=" ")
    print(
        "The same command goes on."
        if len(done) < len(comparisons)
        else f"Who wrote what: --results. {shortage}".strip()
    )
