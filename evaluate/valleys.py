"""What levers do to the valley: the held-out loss at the end, drawn over the learning rate."""

import math

import numpy as np

from evaluate.results import PLAIN, Run, lr_label, several_levers

VALLEY = 0.03  # nats per token
VALLEYS = (
    "The width of the valley is the factor between the smallest and the largest rate whose held-out loss at the end "
    f"lies within {VALLEY:g} nats of the best of all"
)


def valleys(runs: list[Run]) -> list[list[str]]:
    """A table over the levers: the titles, and of each lever the lowest held-out loss at the end (the mean over the
    seeds), its rate, and how wide the valley is. Empty if there is one lever, or nothing was held out."""
    ends: dict[tuple[str, float], list[float]] = {}
    for run in runs:
        if run.held_out:
            ends.setdefault((run.lever, run.lr), []).append(run.end)
    means = {key: float(np.mean(losses)) for key, losses in ends.items()}
    rows = [["lever", "lowest held-out loss at the end", "its rate", "width of the valley"]]
    for lever in dict.fromkeys(lever for lever, _ in means):
        of = {lr: mean for (other, lr), mean in means.items() if other == lever}
        low, within = min(of, key=of.get), sorted(lr for lr in of if of[lr] <= min(means.values()) + VALLEY < math.inf)
        rates = " to ".join(dict.fromkeys(map(lr_label, within[:1] + within[-1:])))
        width = f"{within[-1] / within[0]:.1f}".removesuffix(".0") + f" ({rates})" if within else "none"
        rows.append([lever or PLAIN, f"{of[low]:.3f}".replace("inf", "diverged"), lr_label(low), width])
    return rows if means and several_levers(runs) else []
