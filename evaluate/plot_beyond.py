"""The panels on what loss and ratio cannot show: over-fitting, forgetting, copying, the change of the weights.

Every function draws one panel from result files; results without the figures are left out. The colour of a
learning rate comes from `style_of` in plot.py; the base model (before any fine-tuning) is grey, the book black.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from evaluate.results import lr_label

BASE, BOOK = "#777777", "black"


def label_once(ax: Axes, text: str) -> str:
    """`text` if no line of `ax` bears it yet, else the name that keeps a line out of the legend."""
    return "_nolegend_" if text in [line.get_label() for line in ax.get_lines()] else text


def plot_final_held_out(ax: Axes, results: list[dict], styles: dict[float, dict]) -> None:
    """Held-out loss at the end against the learning rate: the valley between too little and too much.

    Every run is a point, the mean over the seeds a line. A run that diverged has no loss; it is a cross
    at the top.
    """
    finished = [result for result in results if result["after"]]
    lrs = sorted({result["lr"] for result in finished})
    last = {lr: [r["held_out_loss"][-1][1] for r in finished if r["lr"] == lr] for lr in lrs}
    ax.plot(lrs, [np.mean(last[lr]) for lr in lrs], color="#BBBBBB", linewidth=1.2, zorder=1)
    for lr in lrs:
        style = styles[lr]
        ax.plot([lr] * len(last[lr]), last[lr], linestyle="", markersize=9, **style, label=lr_label(lr))
    before = results[0]["held_out_loss"][0][1]
    ax.axhline(before, color=BASE, linewidth=1.4, linestyle=":", label="base model")
    for lr in sorted({result["lr"] for result in results if not result["after"]}):
        ax.plot([lr], [0.96], "x", color=styles[lr]["color"], markersize=11, transform=ax.get_xaxis_transform())
        ax.annotate(f"{lr_label(lr)}\ndiverged", (lr, 0.9), xycoords=ax.get_xaxis_transform(), ha="center", va="top")
    ax.set(xscale="log", xlabel="learning rate", ylabel="held-out loss after training (nats per token)")
    ax.margins(x=0.15)
    ax.legend()


def plot_forgetting(ax: Axes, results: list[dict], styles: dict[float, dict]) -> None:
    """Learning against forgetting: one path a run, from the base model (left: knows the book better)."""
    for result in results:
        path = [(c["held_out_loss"], c["kl"]) for c in result["checkpoints"] if {"held_out_loss", "kl"} <= c.keys()]
        style = styles[result["lr"]]
        label = label_once(ax, lr_label(result["lr"]))
        ax.plot(*zip(*path), **style, linewidth=1.5, markersize=4, label=label)
        ax.plot(*path[-1], linestyle="", marker=style["marker"], color=style["color"], markersize=10)
    ax.plot(results[0]["held_out_loss"][0][1], 0, "o", color=BASE, markersize=9, label="base model")
    ax.set(
        xlabel="held-out loss (nats per token): to the left, it learned",
        ylabel="KL from the base model (nats per token):\nupwards, it forgot",
    )
    ax.legend(title="learning rate; the large mark is the end")


def plot_copying(ax: Axes, results: list[dict], styles: dict[float, dict]) -> None:
    """Share of the written tokens that lie in runs copied from the training text, against sample."""
    for result in results:
        points = [(c["sample"], 100 * c["copied"]) for c in result["checkpoints"] if "copied" in c]
        ax.plot(
            *zip(*points),
            **styles[result["lr"]],
            linewidth=1.8,
            markersize=5,
            label=label_once(ax, lr_label(result["lr"])),
        )
    ax.axhline(100 * results[0]["before"]["copied"], color=BASE, linewidth=1.4, linestyle=":", label="base model")
    book = (results[0].get("book") or {}).get("copied")
    if book is not None:
        ax.axhline(100 * book, color=BOOK, linewidth=1.2, linestyle="--", label="the book's own held-out text")
    ax.set(
        xlabel="samples trained on (optimizer steps)",
        ylabel="written tokens in copied runs of 13 or more (%)",
        ylim=(-0.5, max(5.0, 1.15 * ax.get_ylim()[1])),
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()


def plot_weight_change(ax: Axes, results: list[dict], styles: dict[float, dict]) -> None:
    """How far each part of the model has moved: the length of the change as a share of that of the weights."""
    for result in results:
        change = result["after"]["weight_change"]
        ax.plot(
            range(len(change)),
            [100 * share for share in change.values()],
            **styles[result["lr"]],
            linewidth=1.5,
            markersize=6,
            label=label_once(ax, lr_label(result["lr"])),
        )
    parts = list(results[0]["after"]["weight_change"])
    ax.set(
        xticks=range(len(parts)),
        xlabel="part of the model, from the input to the output",
        ylabel="change of the weights (% of their length)",
        yscale="log",
    )
    ax.set_xticklabels(parts, rotation=45, ha="right")
    ax.legend(title="learning rate")
