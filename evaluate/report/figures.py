"""The panels on what loss and ratio cannot show: over-fitting, forgetting, copying, the change of the weights.

Every function draws one panel from result files. The colour of a
learning rate comes from `style_of` in plots.py; the base model (before any fine-tuning) is grey, the book black.
"""

from collections.abc import Iterable

import numpy as np

from evaluate.report.drawing import Artist, Axes, Line2D, LogFormatter, MaxNLocator, NullLocator
from evaluate.results import Result, final_loss, least_copy, lr_label, path

BASE, BOOK = "#777777", "black"
SCALE = 2.0  # times the base model's loss: what is above is off the scale, whatever it is


def legend_above(ax: Axes, title: str, further: Iterable[Artist] = ()) -> None:
    """The panel's `title` and below it the legend, above the panel, where they hide nothing that is drawn.

    `further` entries begin a row of their own.
    """
    own, further = ax.get_legend_handles_labels()[0], list(further)

    def in_columns(count: int) -> list[list[Artist]]:
        gap = [Line2D([], [], linestyle="", label="")] * (-len(own) % count if further else 0)
        entries = [*own, *gap, *further]
        return [entries[column::count] for column in range(count)]

    def letters(columns: list[list[Artist]]) -> int:
        return sum(max((len(entry.get_label()) for entry in column), default=0) for column in columns)

    # matplotlib fills column after column, and readers read row after row.
    columns = next((c for c in map(in_columns, (3, 2)) if letters(c) <= 40), in_columns(1))
    ax.legend(
        handles=[entry for column in columns for entry in column],
        title=title,
        title_fontproperties={"weight": "bold"},
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=len(columns),
        columnspacing=1.2,
        handletextpad=0.5,
        borderaxespad=0.2,
        frameon=False,
    )


def ticks_on(ax: Axes, samples: Iterable[int]) -> None:
    """Some six ticks on the x axis, at round numbers or at the `samples` next to them: there, something was measured."""
    measured = np.array(sorted(set(samples)))
    if not len(measured):  # every run diverged at its first sample
        return
    round_numbers = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(measured[0], measured[-1])
    within = [number for number in round_numbers if number <= measured[-1]]
    nearest = {int(measured[np.abs(measured - number).argmin()]) for number in within}
    ax.set_xticks(sorted(nearest))


def loss_limit(results: list[Result]) -> float:
    """Where the axes of losses and of KL end, in nats per token, if a run went beyond."""
    first = [result["train_loss"][0] for result in results if result["train_loss"]]
    return SCALE * (float(np.mean(first)) if first else 1.0)


def off_the_scale(result: Result) -> bool:
    """Whether a run that ended with a finite loss ended above `loss_limit`."""
    if not result["train_loss"]:
        return False
    held_out = result["held_out_loss"][-1][1] if result["held_out_loss"] else 0.0
    return max(final_loss(result), held_out) > loss_limit([result])


def curve_label(result: Result) -> str:
    """The run's learning rate, and why little of it may be seen."""
    name = lr_label(result["lr"])
    if not result["after"]:
        return f"{name} (diverged)"
    return f"{name} (off the scale)" if off_the_scale(result) else name


def label_once(ax: Axes, text: str) -> str:
    """`text` if no line of `ax` bears it yet, else the name that keeps a line out of the legend."""
    return "_nolegend_" if text in [line.get_label() for line in ax.get_lines()] else text


def plot_final_held_out(ax: Axes, results: list[Result], styles: dict[float, dict]) -> None:
    """Held-out loss at the end against the learning rate: the valley between too little and too much.

    Every run is a point, the mean over the seeds a line. A run that diverged has no loss, and one that
    exploded none that fits on the scale: they are crosses at the top.
    """
    finished = [result for result in results if result["after"] and not off_the_scale(result)]
    lrs = sorted({result["lr"] for result in finished})
    last = {lr: [r["held_out_loss"][-1][1] for r in finished if r["lr"] == lr] for lr in lrs}
    ax.plot(lrs, [np.mean(last[lr]) for lr in lrs], color="#BBBBBB", linewidth=1.2, zorder=1)
    for lr in lrs:
        style = styles[lr]
        ax.plot([lr] * len(last[lr]), last[lr], linestyle="", markersize=10, **style, label=lr_label(lr))
    before = results[0]["held_out_loss"][0][1]
    ax.axhline(before, color=BASE, linewidth=1.6, linestyle=":", label="base model")
    gone = {r["lr"]: "off the scale" if r["after"] else "diverged" for r in results if r not in finished}
    for lr, what in gone.items():
        cross = {"color": styles[lr]["color"], "markersize": 11, "markeredgewidth": 2.5}
        ax.plot([lr], [0.96], "x", **cross, transform=ax.get_xaxis_transform())
        ax.annotate(f"{lr_label(lr)}\n{what}", (lr, 0.92), xycoords=ax.get_xaxis_transform(), ha="center", va="top")
    everywhere = sorted({result["lr"] for result in results})
    ax.set(xscale="log", xlabel="learning rate", ylabel="nats per token")
    ax.set_xticks(everywhere, list(map(lr_label, everywhere)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.15, y=0.25 if gone else 0.08)  # room for the crosses
    legend_above(ax, "Held-out loss after training")


def plot_forgetting(ax: Axes, results: list[Result], styles: dict[float, dict]) -> None:
    """Learning against forgetting: one path a run, from the base model (left: knows the book better)."""
    for result in results:
        points, style = path(result, "held_out_loss", "kl"), styles[result["lr"]]
        label = label_once(ax, curve_label(result))
        ax.plot(*zip(*points), **style, linewidth=1.5, markersize=4, label=label)
        ax.plot(*points[-1], linestyle="", marker=style["marker"], color=style["color"], markersize=10)
    ax.plot(results[0]["held_out_loss"][0][1], 0, "o", color=BASE, markersize=9, label="base model")
    ax.set(
        xlabel="held-out loss (nats per token); leftwards: it learned",
        ylabel="KL from the base model\n(nats per token); upwards: it forgot",
    )
    limit = loss_limit(results)
    if ax.get_xlim()[1] > limit or ax.get_ylim()[1] > limit:
        ax.set(xlim=(0.9 * min(x for r in results for _, x in r["held_out_loss"]), limit), ylim=(-0.03 * limit, limit))
    legend_above(ax, "Paths from the base model (large mark: the end)")


def plot_copying(ax: Axes, results: list[Result], styles: dict[float, dict]) -> None:
    """Share of the written tokens that lie in runs copied from the training text, against sample."""
    for result in results:
        points = [(sample, 100 * share) for sample, share in path(result, "sample", "copied")]
        style = styles[result["lr"]] | {"label": label_once(ax, lr_label(result["lr"]))}
        # What lies on the axis is drawn whole.
        ax.plot(*zip(*points), **style, linewidth=1.8, markersize=6, clip_on=False, zorder=3)
    ax.axhline(100 * results[0]["before"]["copied"], color=BASE, linewidth=1.6, linestyle=":", label="base model")
    if "copied" in results[0]["book"]:
        dashed = {"color": BOOK, "linewidth": 1.2, "linestyle": "--"}
        ax.axhline(100 * results[0]["book"]["copied"], **dashed, label="the book, held out")
    ax.set(xlabel="samples trained on (optimizer steps)", ylabel="%", ylim=(0, max(5.0, 1.05 * ax.get_ylim()[1])))
    ticks_on(ax, (sample for result in results for sample, _ in path(result, "sample", "copied")))
    legend_above(ax, f"Written tokens in copied runs of {least_copy(results)} or more")


def plot_weight_change(ax: Axes, results: list[Result], styles: dict[float, dict]) -> None:
    """How far each part of the model has moved: the length of the change as a share of that of the weights."""
    for result in results:
        shares = [100 * share for share in result["after"]["weight_change"].values()]
        style = styles[result["lr"]] | {"label": label_once(ax, lr_label(result["lr"]))}
        ax.plot(range(len(shares)), shares, **style, linewidth=1.5, markersize=6)
    parts = list(results[0]["after"]["weight_change"])
    ax.set(
        xticks=range(len(parts)),
        xlabel="part of the model, from the input to the output",
        ylabel="% of their length",
        yscale="log",
    )
    ax.set_xticklabels(parts, rotation=45, ha="right")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(LogFormatter())  # 40, not 4 x 10^1
    legend_above(ax, "Change of the weights")
