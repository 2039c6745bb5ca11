"""Who is compared with whom, and in which order."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from data.generators import RATING, generator
from evaluate.rate.statistics import FEW
from evaluate.results import Result, lr_label


@dataclass(frozen=True)
class Contest:
    """Who takes part: the base model, every learning rate and the book."""

    prompts: list[str]
    texts: dict[str, list[str]]  # {participant: its continuation of each prompt}; the base model comes first


class Comparison(NamedTuple):
    prompt: int  # its number
    left: str
    right: str
    repeat: bool  # shown before, with the sides swapped


def open_contest(results: list[Result]) -> Contest:
    """The participants of `results` (see `find_results`); of several seeds of a learning rate the lowest.

    Raises:
        ValueError: they have not the same prompts.
    """
    base = results[0]
    written = {"base": base["before"]}
    for result in sorted(results, key=lambda result: (-result["lr"], result["seed"])):
        name = lr_label(result["lr"])
        if result["prompts"] != base["prompts"]:
            raise ValueError(f"the run at {name} has other prompts than that at {lr_label(base['lr'])}; name one sweep")
        if result["after"]:
            written.setdefault(name, result["after"])
    written["book"] = base["book"]
    texts = {name: ["".join(c["pieces"]) for c in written[name]["continuations"]] for name in written}
    return Contest(base["prompts"], texts)


def pairs_for_a_verdict(participants: int) -> int:
    """The fewest whole rounds of everybody against everybody, repeats included, in which nobody has FEW comparisons
    or less than that: then a share won of 0.8 is told from one half."""
    rounds = math.ceil(FEW / (participants - 1))
    return round(1.2 * rounds * math.comb(participants, 2))  # `draw_comparisons` makes one in six a repeat


def draw_comparisons(names: Iterable[str], prompts: int, pairs: int, seed: int = 0) -> list[Comparison]:
    """What is compared, in this order; the same for every rater of one `seed`.

    Every pair of participants and every prompt occurs equally often (or once more), and no comparison twice but
    the repeats: about one in six, at least one, each with its sides swapped and another one or more between.

    Args:
        prompts: how many there are.
        pairs: comparisons, repeats included; fewer are drawn where no more are possible.

    Raises:
        ValueError: `pairs` is below 3, too few for a repeat.
    """
    if pairs < 3:
        raise ValueError(f"--pairs {pairs} leaves no room for a pair that comes twice; use 3 or more")
    rng = generator(RATING, seed)
    matches = list(combinations(names, 2))
    possible = len(matches) * prompts
    repeats = max(1, round(min(pairs / 6, possible / 5)))
    different = min(pairs - repeats, possible)
    # Match k % M and prompt k % P, k = 0, 1 ...: both stay balanced at every k. After lcm(M, P) of them the same
    # combinations would come again, so from there on the prompts go one further.
    once_round = int(np.lcm(len(matches), prompts))
    match_order, prompt_order = rng.permutation(len(matches)), rng.permutation(prompts)
    drawn = []
    for k in range(different):
        sides = matches[match_order[k % len(matches)]]
        prompt = int(prompt_order[(k + k // once_round) % prompts])
        drawn.append(Comparison(prompt, *(sides if rng.random() < 0.5 else sides[::-1]), False))
    if different < 2:
        return drawn  # nothing could stand between the one and its repeat
    # The turns of the matches go on with the repeats, so that all comparisons together are balanced.
    turns, repeated = min(len(matches), different), []
    for k in range(different, different + repeats):
        candidates = [comparison for comparison in drawn[k % turns :: turns] if comparison not in repeated]
        repeated.append(candidates[rng.integers(len(candidates))])
    # What comes last could not come again with another in between.
    last = rng.choice([k for k in range(different) if drawn[k] not in repeated])
    order = [drawn[k] for k in rng.permutation(different) if k != last] + [drawn[last]]
    for comparison in repeated:
        place = rng.integers(order.index(comparison) + 2, len(order) + 1)
        order.insert(place, Comparison(comparison.prompt, comparison.right, comparison.left, True))
    return order


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def checksums(contest: Contest, prompt: int, left: str, right: str) -> dict[str, str]:
    """Of the two texts, so that no rating outlives what was rated."""
    return {
        "left_sha256": sha256(contest.texts[left][prompt]),
        "right_sha256": sha256(contest.texts[right][prompt]),
    }


def shortage_of(comparisons: int, needed: int) -> str:
    """What to say where the comparisons are too few for a verdict; nothing where they are enough."""
    if comparisons >= needed:
        return ""
    return f"A verdict needs {needed - comparisons} pairs more, {needed} in all: with fewer, even who wins 8 of 10 may owe it to chance."
