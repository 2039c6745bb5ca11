"""The blind comparison as one web page: no network, and the answers come back as a file of ratings."""

from pathlib import Path

from evaluate.rate.contest import Comparison, Contest, checksums
from evaluate.rate.session import readable
from evaluate.rate.statistics import WORDING
from evaluate.report.template import fill


def page(contest: Contest, comparisons: list[Comparison], seed: int, pairs: int, shortage: str) -> str:
    """One self-contained HTML page. A downloaded line tells a comparison by seed, pairs and number alone.

    Args:
        seed, pairs: what the `comparisons` were drawn by.
        shortage: what to say if they are too few for a verdict.
    """
    data = {"pairs": pairs, "seed": seed, "wording": WORDING, "shortage": shortage}
    data["comparisons"] = on_page(contest, comparisons)
    return fill(Path(__file__).with_name("rate.html"), data=data)


def on_page(contest: Contest, comparisons: list[Comparison]) -> list[dict]:
    """What a page has to know of each comparison; whose texts they are is not among it."""
    return [
        {
            "prompt": readable(contest.prompts[prompt]),
            "left": readable(contest.texts[left][prompt]),
            "right": readable(contest.texts[right][prompt]),
        }
        | checksums(contest, prompt, left, right)
        for prompt, left, right, _ in comparisons
    ]
