"""Asks the readers: in a terminal, where every answered pair is saved at once, or on a web page."""

import json
import shutil
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

from evaluate.rate.contest import POINTS, QUESTIONS, Comparison, Contest, compared, read_ratings, shortage
from evaluate.table import flowing, lines_of
from evaluate.template import fill

KEYS = "l: left, r: right, t: tie; b: back to the previous answer; q: quit, all finished pairs are saved"


def rate(contest: Contest, comparisons: list[Comparison], rater: str, file: Path) -> None:
    """Ask `rater` in the terminal for the comparisons that are still open; add the answers to `file`."""
    if file.is_symlink():
        raise ValueError(f"{file} is a link, and nothing is written through one; copy the ratings to its place")
    answered = {compared(r) for r in (read_ratings([file]) if file.exists() else []) if r["rater"] == rater}
    still_open = [c for c in comparisons if compared(contest.without_names(c)) not in answered]
    before = saved = len(comparisons) - len(still_open)
    print(f"{len(comparisons)} comparisons, {before} of them answered. {KEYS}.")
    print(shortage(len(comparisons), len(contest.texts)))
    questions, given, shown = list(QUESTIONS), [], None  # given: the letters typed, one question after another
    with file.open("a", buffering=1, encoding="utf-8") as ratings:  # every line is saved at once
        if file.read_bytes()[-1:] not in (b"", b"\n"):
            ratings.write("\n")  # or the next rating would continue the last line
        try:
            while len(given) < len(still_open) * len(questions):
                number, asked = divmod(len(given), len(questions))
                if number != shown:
                    print(f"\n{f' {before + number + 1} of {len(comparisons)} ':-^60}\n")
                    print(as_shown(contest, still_open[number], shutil.get_terminal_size().columns))
                    shown = number
                key = input(f"{questions[asked]}: {QUESTIONS[questions[asked]]} [l, r, t] ").strip().lower()
                if key == "q":
                    break
                if key == "b" and given:
                    given.pop()
                elif key in POINTS:
                    given.append(key)
                else:
                    print("This is the first answer." if key == "b" else KEYS)
                if key in POINTS and asked == len(questions) - 1:
                    rating = {"rater": rater} | contest.without_names(still_open[number])
                    rating["answers"] = dict(zip(questions, given[-len(questions) :]))
                    rating["time"] = datetime.now(UTC).isoformat(timespec="seconds")
                    ratings.write(json.dumps(rating) + "\n")
                    saved = max(saved, before + number + 1)
        except (KeyboardInterrupt, EOFError):
            print()
    go_on = "The same command continues." if saved < len(comparisons) else "Add --results to see who wrote what."
    print(f"{saved} of {len(comparisons)} answered and saved. {go_on}")


def as_shown(contest: Contest, comparison: Comparison, width: int) -> str:
    """Prompt and both continuations in two columns, `width` characters in all, without their authors."""
    column = max(20, (width - 3) // 2)
    left, right = (lines_of(text, contest.wrapped, column) for text in contest.texts_of(comparison))
    lines = zip_longest(["LEFT", "", *left], ["RIGHT", "", *right], fillvalue="")
    rows = [f"{a:<{column}} | {b}".rstrip() for a, b in lines]
    return "\n".join([*lines_of(contest.prompts[comparison.prompt], contest.wrapped, 2 * column + 3), "", *rows, ""])


def comparison_page(contest: Contest, comparisons: list[Comparison]) -> str:
    """The comparisons as one self-contained HTML page, without their authors; it downloads lines of ratings."""
    shown = []
    for comparison in comparisons:
        texts = (contest.prompts[comparison.prompt], *contest.texts_of(comparison))
        parts = {name: flowing(text, contest.wrapped) for name, text in zip(("prompt", "left", "right"), texts)}
        shown.append({"rated": contest.without_names(comparison), "texts": parts})
    data = {"comparisons": shown, "questions": QUESTIONS, "shortage": shortage(len(comparisons), len(contest.texts))}
    return fill(Path(__file__).with_name("rate.html"), data=data)
