"""What readers prefer: wins, Bradley-Terry scores, a reader's consistency and the agreement between readers.

A rating is a dictionary: `rater`, `prompt` (its number), `left` and `right` (the names of two participants),
`answers` {question: "l", "r" or "t" for a tie} and `repeat` (a pair that the rater had seen before).

Shape legend: P participants, K different comparisons, R resamples of the bootstrap.
"""

import math
from collections import Counter
from itertools import permutations

import numpy as np

from data.generators import BOOTSTRAP, generator

WORDING = {
    "coherence": "which holds together better?",
    "style": "which goes on more as the prompt began?",
    "originality": "which has more ideas of its own?",
}
QUESTIONS = tuple(WORDING)
POINTS = {"l": 1.0, "t": 0.5, "r": 0.0}  # what the left text gets of a comparison; the right one gets the rest
OTHER_WAY = {"l": "r", "t": "t", "r": "l"}  # the same opinion once the sides are swapped
FEW = 11  # comparisons of one participant: below, even a share won of 0.8 may be chance, with one half in its interval


def summary(ratings: list[dict], participants: list[str], seed: int = 0) -> dict:
    """Everything the ratings say, as JSON has it. What there is no rating of is None.

    Repeats tell how consistent a rater is and count for nothing else: a second look at the same two texts is
    no new evidence about them. For the same reason the intervals go by the number of *different*
    comparisons (K), however many raters made each of them.

    Args:
        participants: the base model first; scores are relative to it. Ratings of others are left out.
        seed: of the bootstrap.

    Returns:
        ratings, comparisons (K), repeats: how many; raters: their names;
        questions: {question: {participant: {wins, ties, losses, comparisons, share, share_ci, score, score_ci}}},
            the share of wins with ties as half and its Wilson interval; the Bradley-Terry score, a difference of
            log-strengths, and its bootstrap interval;
        few: whether a participant has fewer than FEW comparisons; consistency, agreement: see there.
    """
    ratings = [r for r in ratings if r.get("left") in participants and r.get("right") in participants]
    first = [rating for rating in ratings if not rating["repeat"]]
    questions = {question: standings(first, question, participants, seed) for question in QUESTIONS}
    fewest = min(standing["comparisons"] for standing in questions[QUESTIONS[0]].values())
    return {
        "ratings": len(first),
        "comparisons": len(set(map(comparison_of, first))),
        "repeats": len(ratings) - len(first),
        "raters": sorted({rating["rater"] for rating in ratings}),
        "questions": questions,
        "few": fewest < FEW,
        "consistency": consistency(ratings),
        "agreement": agreement(first),
    }


def comparison_of(rating: dict) -> tuple:
    """What is compared, whichever way round it was shown and whoever rated it."""
    return rating["prompt"], *sorted((rating["left"], rating["right"]))


def standings(ratings: list[dict], question: str, participants: list[str], seed: int = 0) -> dict[str, dict]:
    """How each participant fared in one question; see `summary`."""
    points = points_of(ratings, question, participants)  # (K, P, P)
    scores, intervals = scores_with_intervals(points, seed)  # (P,), (P, 2)
    found = {}
    for i, name in enumerate(participants):
        tally = Counter()  # by points of a single answer: 1, 0.5, 0
        for rating in ratings:
            if name in (rating["left"], rating["right"]):
                letter = rating["answers"][question]
                tally[POINTS[letter if name == rating["left"] else OTHER_WAY[letter]]] += 1
        compared = int((points[:, i] + points[:, :, i]).any(-1).sum())
        share = (tally[1.0] + tally[0.5] / 2) / tally.total() if compared else None
        found[name] = {
            "wins": tally[1.0],
            "ties": tally[0.5],
            "losses": tally[0.0],
            "comparisons": compared,
            "share": share,
            "share_ci": wilson_interval(share, compared) if compared else None,
            "score": float(scores[i]) if compared else None,
            "score_ci": intervals[i].tolist() if compared > 1 else None,  # of one there is nothing to resample
        }
    return found


def points_of(ratings: list[dict], question: str, participants: list[str]) -> np.ndarray:
    """(K, P, P): the points that participant i took from participant j in comparison k, over all who rated it."""
    numbers = {comparison: k for k, comparison in enumerate(sorted(set(map(comparison_of, ratings))))}
    points = np.zeros((len(numbers), len(participants), len(participants)))
    for rating in ratings:
        k = numbers[comparison_of(rating)]
        left, right = participants.index(rating["left"]), participants.index(rating["right"])
        points[k, left, right] += POINTS[rating["answers"][question]]
        points[k, right, left] += 1 - POINTS[rating["answers"][question]]
    return points


def wilson_interval(share: float, n: int) -> list[float]:
    """95 % interval of a share seen in `n` independent trials (Wilson 1927).

    Unlike the bootstrap it does not shrink to a point when all trials end alike. Ties only make it wider than
    need be: half points vary less than wins and losses of the same mean.
    """
    z = 1.959964  # the normal distribution's 97.5 % quantile
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return [max(0.0, (middle - half) / (1 + z**2 / n)), min(1.0, (middle + half) / (1 + z**2 / n))]


def bradley_terry(points: np.ndarray, prior: float = 0.5) -> np.ndarray:
    """Log-strengths under the model of Bradley and Terry (1952): i beats j with probability s_i / (s_i + s_j).

    Fitted by the MM iteration of Hunter (2004, eq. 3), a tie as half a win to each. Everybody also has `prior`
    wins and `prior` losses against a virtual opponent of strength 1, or who always wins would be infinitely
    strong. With them the virtual opponent comes out as average: the chances of winning against it sum to P / 2.

    Args:
        points: (..., P, P) points that i took from j.

    Returns:
        (..., P) log-strengths, 0 that of the virtual opponent (`prior` 0: up to a constant).
    """
    played = points + points.swapaxes(-1, -2)  # (..., P, P)
    won = points.sum(-1) + prior  # (..., P)
    strength = np.ones(won.shape)
    for _ in range(20_000):
        rate = (played / (strength[..., :, None] + strength[..., None, :])).sum(-1) + 2 * prior / (strength + 1)
        previous, strength = strength, won / rate
        # The likelihood sees only quotients. What puts the virtual opponent in the middle is the prior, and among
        # many comparisons that takes ages; so help: 1/4 is the steepest slope of a chance, hence this never overshoots.
        chance = strength / (strength + 1)  # of winning against the virtual opponent
        strength = strength * np.exp(4 * (0.5 - chance.mean(-1, keepdims=True)))
        if np.abs(strength / previous - 1).max() < 1e-10:
            break
    return np.log(strength)


def scores_with_intervals(points: np.ndarray, seed: int = 0, resamples: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Bradley-Terry scores (P,) relative to the first participant, and their 95 % bootstrap intervals (P, 2).

    Args:
        points: (K, P, P); whole comparisons are resampled, with all who rated them. What never occurred occurs in
            no resample: the interval of who always wins or loses is too narrow.
    """
    K, P, _ = points.shape
    if not K:
        return np.zeros(P), np.zeros((P, 2))
    # How often each comparison is drawn into each resample.
    times = generator(BOOTSTRAP, seed).multinomial(K, np.full(K, 1 / K), size=resamples)  # (R, K)
    resampled = bradley_terry((times @ points.reshape(K, P * P)).reshape(-1, P, P))  # (R, P)
    scores = bradley_terry(points.sum(0))  # (P,)
    return scores - scores[0], np.quantile(resampled - resampled[:, :1], [0.025, 0.975], axis=0).T


def consistency(ratings: list[dict]) -> dict[str, dict]:
    """How often each rater gave the same answer when a pair came again with its sides swapped.

    Returns:
        {rater: {pairs: that came twice, answers: about them, same: of these, share: same / answers}}; raters
        without a repeat are left out.
    """
    first = {(r["rater"], r["prompt"], r["left"], r["right"]): r["answers"] for r in ratings if not r["repeat"]}
    found = {}
    for rating in ratings:
        earlier = first.get((rating["rater"], rating["prompt"], rating["right"], rating["left"]))
        if rating["repeat"] and earlier:
            of_rater = found.setdefault(rating["rater"], {"pairs": 0, "answers": 0, "same": 0})
            of_rater["pairs"] += 1
            of_rater["answers"] += len(QUESTIONS)
            of_rater["same"] += sum(rating["answers"][q] == OTHER_WAY[earlier[q]] for q in QUESTIONS)
    return {rater: counts | {"share": counts["same"] / counts["answers"]} for rater, counts in found.items()}


def agreement(ratings: list[dict]) -> dict[str, dict] | None:
    """Krippendorff's alpha between raters: {question: {comparisons: that several rated, alpha}}, None for one rater.

    The values are left, right and tie as the first of the raters saw the sides. The sides are random, so
    agreement by chance is that of raters who answer without having read.
    """
    if len({rating["rater"] for rating in ratings}) < 2:
        return None
    shown = {}  # the left participant of each comparison as it was first seen
    for rating in ratings:
        shown.setdefault(comparison_of(rating), rating["left"])
    found = {}
    for question in QUESTIONS:
        values = {comparison: {} for comparison in shown}  # {comparison: {rater: letter}}
        for rating in ratings:
            comparison, letter = comparison_of(rating), rating["answers"][question]
            as_shown = letter if rating["left"] == shown[comparison] else OTHER_WAY[letter]
            values[comparison][rating["rater"]] = as_shown
        units = [list(by_rater.values()) for by_rater in values.values() if len(by_rater) > 1]
        found[question] = {"comparisons": len(units), "alpha": krippendorff_alpha(units)}
    return found


def krippendorff_alpha(units: list[list[str]]) -> float | None:
    """Krippendorff's alpha for nominal data: 1 - observed / expected disagreement (Krippendorff 2004, chapter 11).

    1 is perfect agreement, 0 what chance would give; below, raters contradict one another.

    Args:
        units: what was rated, each as the values its raters gave; units with a single value say nothing.

    Returns:
        alpha, None where all values are equal or none can be compared.
    """
    pairs = Counter()  # the coincidence matrix: ordered pairs of values that two raters gave to one unit
    for unit in units:
        for pair in permutations(unit, 2):
            pairs[pair] += 1 / (len(unit) - 1)
    totals = Counter()
    for (value, _), count in pairs.items():
        totals[value] += count
    n = sum(totals.values())
    expected = sum(totals[a] * totals[b] for a in totals for b in totals if a != b)
    if not expected:
        return None
    observed = sum(count for (a, b), count in pairs.items() if a != b)
    return 1 - (n - 1) * observed / expected
