"""What the ratings say, in words."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from evaluate.rate.contest import Contest
from evaluate.rate.ratings import read_ratings, usable_ratings
from evaluate.rate.statistics import FEW, summary
from evaluate.results import Result, describe


def results_text(found: dict, title: str) -> str:
    """The `summary` as Markdown."""
    if not found["ratings"]:
        return f"{title}\n\nNo ratings of these texts yet.\n"
    rows = [["question", "participant", "wins / ties / losses", "share won (95 %)", "score (95 %)"], ["---"] * 5]
    for question, standings in found["questions"].items():
        for name, standing in standings.items():
            counts = f"{standing['wins']} / {standing['ties']} / {standing['losses']}"
            share = score = ""
            if standing["comparisons"]:
                share = "{:.2f} ({:.2f} to {:.2f})".format(standing["share"], *standing["share_ci"])
                score = f"{standing['score']:+.2f}"
            if standing["score_ci"]:
                score += " ({:+.2f} to {:+.2f})".format(*standing["score_ci"])
            rows.append([question, name, counts, share, "0" if name == next(iter(standings)) else score])
    lines = [title, "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    lines.append(
        f"{found['comparisons']} different comparisons, raters: {', '.join(found['raters'])}. Ties count half; Wilson "
        "interval over different comparisons. Score: Bradley-Terry log-strength relative to base (1 is odds of 2.7 to "
        "1), with half a win and half a loss against an average opponent; bootstrap interval over comparisons, too "
        "narrow for who always wins or loses.\n"
    )
    lines += [f"- {remark}" for remark in remarks(found, "{:.0%}".format, undefined="undefined")]
    return "\n".join(lines) + "\n"


def remarks(found: dict, share: Callable[[float], str], undefined: str) -> list[str]:
    """How far the `summary` can be trusted: sentences on its size, on each rater and on their agreement.

    Args:
        share: writes a share.
        undefined: stands for an agreement that is None.
    """
    sentences = []
    if found["few"]:
        sentences.append(
            f"These are few answers (below {FEW} comparisons of a participant): even a share won of 0.8 may be chance."
        )
    for rater, own in found["consistency"].items():
        sentences.append(
            f"{rater} was shown {own['pairs']} pairs twice and gave the same answer {own['same']} of "
            f"{own['answers']} times ({share(own['share'])})."
        )
    for question, shared in (found["agreement"] or {}).items():
        alpha = undefined if shared["alpha"] is None else f"{shared['alpha']:.2f}"
        sentences.append(
            f"Agreement between raters on {question}: Krippendorff's alpha {alpha} over {shared['comparisons']} "
            "comparisons (1: perfect, 0: chance)."
        )
    return sentences


def tell_results(results: list[Result], contest: Contest, files: Sequence[str | Path]) -> None:
    """Say who wrote what, and who won by the ratings in `files`."""
    ratings, notes = usable_ratings(read_ratings(files), contest)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    title = f"Blind comparison: {describe(results)}."
    print(results_text(summary(ratings, list(contest.texts)), title), end="")
