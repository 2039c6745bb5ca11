"""The comparisons, their order, and the format of a rating.

A rating is one line of JSON, the same from a terminal and from a page: `rater`, `prompt` (its number), `left_sha256`
and `right_sha256` of the two texts, and `answers` {question: "l", "r" or "t" for a tie}. It names no author; the
checksums show which participant wrote a text, and whether the text has changed since it was rated.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from data.generators import RATING, generator
from evaluate.results import Run

QUESTIONS = {
    "coherence": "which text holds together better?",
    "style": "which text is more like the passage before it?",
    "originality": "which text has more ideas of its own?",
}
POINTS = {"l": 1.0, "t": 0.5, "r": 0.0}  # for the left text; the right text gets the rest
FEW = 11  # with fewer comparisons of a participant, the 95 % interval of a share won of 0.8 contains one half


class Comparison(NamedTuple):
    prompt: int  # its number
    left: str  # participants
    right: str


@dataclass(frozen=True)
class Contest:
    """The participants: the base model, every run and the book."""

    prompts: list[str]
    texts: dict[str, list[str]]  # {participant: its continuation of each prompt}; the base model comes first
    wrapped: bool  # whether the book is, see `flowing`

    def texts_of(self, comparison: Comparison) -> list[str]:
        """The left and the right text."""
        return [self.texts[name][comparison.prompt] for name in (comparison.left, comparison.right)]

    def without_names(self, comparison: Comparison) -> dict:
        """The part of a rating that identifies the comparison."""
        left, right = map(sha256, self.texts_of(comparison))
        return {"prompt": comparison.prompt, "left_sha256": left, "right_sha256": right}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def compared(rating: dict) -> tuple:
    """The key of a comparison: the prompt and the two texts, in any order."""
    return rating["prompt"], frozenset((rating["left_sha256"], rating["right_sha256"]))


def open_contest(runs: list[Run]) -> Contest:
    """The participants of `runs` (see `find_runs`). Of several seeds of a learning rate the lowest is used."""
    first = runs[0]
    written = {"base": first.before}
    for run in runs:
        if run.result["prompts"] != first.result["prompts"]:
            raise ValueError(f"the run at {run.label} has other prompts than that at {first.label}; name one sweep")
        if run.after:
            written.setdefault(run.name, run.after)
    written["book"] = first.result["book"]
    texts = {name: ["".join(c["pieces"]) for c in written[name]["continuations"]] for name in written}
    return Contest(first.result["prompts"], texts, first.wrapped)


def pairs_for_a_verdict(participants: int) -> int:
    """The pairs of as many full rounds (each against each) as give every participant at least FEW comparisons."""
    return math.ceil(FEW / (participants - 1)) * math.comb(participants, 2)


def shortage(comparisons: int, participants: int) -> str:
    """A message if the comparisons are too few for a verdict; "" if they are enough."""
    if comparisons >= (needed := pairs_for_a_verdict(participants)):
        return ""
    return f"A verdict needs {needed} pairs: with fewer, even 8 wins out of 10 may be chance."


def draw_comparisons(names: Iterable[str], prompts: int, pairs: int, seed: int = 0) -> list[Comparison]:
    """The comparisons in their order; the same for every rater with the same `seed`.

    Every pair of participants and every one of `prompts` prompts occurs equally often (or once more), and no
    comparison occurs twice. If fewer than `pairs` comparisons are possible, fewer are drawn.
    """
    rng = generator(RATING, seed)
    matches = list(combinations(names, 2))
    # Match k % M and prompt k % P, k = 0, 1 ...: both stay balanced at every k. After lcm(M, P) comparisons the same
    # combinations would come again, so from there on the prompts are shifted by one.
    once_round = math.lcm(len(matches), prompts)
    match_order, prompt_order = rng.permutation(len(matches)), rng.permutation(prompts)
    drawn = []
    for k in range(min(pairs, len(matches) * prompts)):
        sides = matches[match_order[k % len(matches)]]
        prompt = int(prompt_order[(k + k // once_round) % prompts])
        drawn.append(Comparison(prompt, *(sides if rng.random() < 0.5 else sides[::-1])))
    return [drawn[k] for k in rng.permutation(len(drawn))]


def read_ratings(files: Iterable[Path]) -> list[dict]:
    """The ratings in `files`; where a rater answered the same comparison twice, the later answers count."""
    ratings = {}
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"no ratings in {file}; answer some first: python -m evaluate.rate RUNS")
        for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
            if line.strip():
                try:
                    rating = json.loads(line)
                    key = rating["rater"], compared(rating)
                    if not all(rating["answers"][question] in POINTS for question in QUESTIONS):
                        raise ValueError
                except (ValueError, KeyError, TypeError):
                    raise ValueError(f"{file}, line {number} is not a rating; delete the line") from None
                ratings[key] = rating
    return list(ratings.values())
