"""Ratings in files: written by the terminal or by a page, read again, and held against the texts as they are now."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from evaluate.rate.contest import Contest, checksums, draw_comparisons
from evaluate.rate.statistics import POINTS, QUESTIONS

# What tells one comparison of one rater from all others; the second row stands in the lines of a page.
IDENTITY = ("rater", "prompt", "left", "right", "repeat", "left_sha256", "right_sha256")
IDENTITY += ("seed", "pairs", "number")


def read_ratings(files: Iterable[str | Path]) -> list[dict]:
    """The ratings in `files`; where one was given twice (the reader went back) the later counts.

    A last line that was torn by an interruption is left out, with a note. The lines of a page name no
    participants, and texts may have changed: `usable_ratings` sees to both.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a line is not a rating.
    """
    ratings = []
    for file in map(Path, files):
        if not file.is_file():
            raise FileNotFoundError(f"no ratings in {file}; answer some first: python -m evaluate.rate RUNS")
        lines = file.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    ratings.append(parse_rating(line))
                except ValueError:
                    if number < len(lines):
                        raise ValueError(f"{file}, line {number} is not a rating; delete the line") from None
                    print(f"note: the last line of {file} is torn and left out; that pair is open", file=sys.stderr)
    return latest(ratings)


def parse_rating(line: bytes) -> dict:
    """Raises ValueError if `line` is not a rating."""
    rating = json.loads(line)
    if not isinstance(rating, dict) or not isinstance(rating.get("answers"), dict):
        raise ValueError
    known = {"rater": str, "left_sha256": str, "right_sha256": str}
    known |= (
        {"number": int, "pairs": int, "seed": int}
        if "number" in rating
        else {"prompt": int, "left": str, "right": str, "repeat": bool}
    )
    if not all(isinstance(rating.get(key), kind) for key, kind in known.items()):
        raise ValueError
    if not all(rating["answers"].get(question) in [*POINTS] for question in QUESTIONS):
        raise ValueError
    return rating


def latest(ratings: Iterable[dict]) -> list[dict]:
    """Of ratings of the same comparison by the same rater the last."""
    return list({tuple(rating.get(key) for key in IDENTITY): rating for rating in ratings}.values())


def usable_ratings(ratings: list[dict], contest: Contest) -> tuple[list[dict], list[str]]:
    """The `ratings` whose texts are still those of `contest`, a page's lines with their participants; and notes."""
    usable = [rating for rating in (with_names(rating, contest) for rating in ratings) if is_of(rating, contest)]
    left_out = len(ratings) - len(usable)
    notes = [f"{left_out} ratings are of other texts than these runs have now; they are left out"] if left_out else []
    return latest(usable), notes


def with_names(rating: dict, contest: Contest) -> dict:
    """`rating`; if it is a page's, with what its seed and number stand for, where they stand for something."""
    if "number" not in rating or rating["pairs"] < 3 or rating["seed"] < 0:
        return rating
    order = draw_comparisons(contest.texts, len(contest.prompts), rating["pairs"], rating["seed"])
    if not 0 <= rating["number"] < len(order):
        return rating
    own = {key: value for key, value in rating.items() if key not in ("seed", "pairs", "number")}
    return own | order[rating["number"]]._asdict()


def is_of(rating: dict, contest: Contest) -> bool:
    """Whether both texts that were rated are still those of `contest`."""
    if not {rating.get("left"), rating.get("right")} <= contest.texts.keys():
        return False
    if not 0 <= rating["prompt"] < len(contest.prompts):
        return False
    expected = checksums(contest, rating["prompt"], rating["left"], rating["right"])
    return expected == {key: rating[key] for key in expected}


def mend(file: Path) -> None:
    """Make `file` end with a whole line, so that the next one does not continue a torn one."""
    lines = file.read_bytes().split(b"\n")
    try:
        whole = not lines[-1] or bool(parse_rating(lines[-1]))
    except ValueError:
        whole = False
    if not whole:
        os.truncate(file, file.stat().st_size - len(lines[-1]))
    elif lines[-1]:
        with file.open("a", encoding="utf-8") as end:
            end.write("\n")
