"""The figures, from the result files alone: loss and ratio for every learning rate; training against held-out loss.

python -m evaluate.plot runs/gpt2-gulliver-800
"""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from evaluate.flags import Parser
from evaluate.report.figures import (
    BOOK,
    curve_label,
    label_once,
    legend_beside,
    loss_limit,
    plot_copying,
    plot_final_held_out,
    plot_forgetting,
    plot_weight_change,
)
from evaluate.results import Result, describe, find_results, lr_label

FIGURE_FILE = "learning_rates.png"
HELD_OUT_FILE = "held_out_loss.png"
FINAL_FILE, FORGETTING_FILE = "final_held_out_loss.png", "learning_and_forgetting.png"
COPYING_FILE, WEIGHTS_FILE = "copying.png", "weight_change.png"
FIGURE_FILES = (FIGURE_FILE, HELD_OUT_FILE, FINAL_FILE, FORGETTING_FILE, COPYING_FILE, WEIGHTS_FILE)
# Colours that colour-blind eyes tell apart (after Okabe and Ito 2008), each with a marker of its own for
# prints in grey.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#7F3C1D", "#0072B2")
MARKERS = ("D", "v", "s", "P", "^", "X", "o")


def style_of(lrs: list[float]) -> dict[float, dict]:
    """Colour and marker of each learning rate.

    A learning rate has a place of its own in the list, by its half decade, and so looks the same in
    every figure of every sweep; where two would fall together, the smaller one takes the next free place.
    """
    places: dict[float, int] = {}
    for lr in sorted(set(lrs), reverse=True):  # several seeds of one are one
        place = round(2 * math.log10(lr)) % len(COLOURS)
        while place in places.values() and len(places) < len(COLOURS):
            place = (place + 1) % len(COLOURS)
        places[lr] = place
    return {lr: {"color": COLOURS[place], "marker": MARKERS[place]} for lr, place in places.items()}


def smooth(values: list[float], width: int) -> np.ndarray:
    """Running mean over `width` values around each one, fewer at the ends; an odd `width` keeps it centred."""
    half = width // 2
    return np.array([np.mean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))])


def plot_loss(ax: Axes, results: list[Result], styles: dict[float, dict]) -> None:
    """Training loss against sample: the raw values faint, a running mean over a twentieth of them on top."""
    for result in results:
        losses = result["train_loss"]
        if not losses:
            continue
        style = styles[result["lr"]]
        samples = np.arange(1, len(losses) + 1)
        width = max(1, len(losses) // 20) | 1
        label = label_once(ax, curve_label(result))
        ax.plot(samples, losses, color=style["color"], alpha=0.25, linewidth=0.8)
        marks = {"markevery": max(1, len(losses) // 12), "markersize": 5}
        ax.plot(samples, smooth(losses, width), **style, label=label, linewidth=1.8, **marks)
    ax.set(xlabel="sample (optimizer step)", ylabel="training loss (nats per token)", title="Training loss")
    limit_losses(ax, results)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_beside(ax)


def limit_losses(ax: Axes, results: list[Result]) -> None:
    """Let a loss that exploded leave the picture at its top: on its scale all others would be one flat line."""
    if ax.get_ylim()[1] > loss_limit(results):
        ax.set_ylim(top=loss_limit(results), bottom=lowest_loss(results) - 0.05 * loss_limit(results))


def lowest_loss(results: list[Result]) -> float:
    held_out = (loss for result in results for _, loss in result["held_out_loss"])
    return min([*(loss for result in results for loss in result["train_loss"]), *held_out])


def plot_ratio(ax: Axes, results: list[Result], styles: dict[float, dict]) -> None:
    """Bars of the ratio before and after each fine-tune, with 95 % intervals and the book's own share.

    Of several seeds the bar is the mean, each seed a dot, and the interval that of the first.
    """
    lrs = list(dict.fromkeys(result["lr"] for result in results))
    for i, lr in enumerate(lrs):
        runs, colour = [result for result in results if result["lr"] == lr], styles[lr]["color"]
        for offset, when in ((-0.2, "before"), (0.2, "after")):
            measured = [run[when] for run in runs if run[when]]
            if measured:
                draw_bar(ax, i + offset, measured, colour, before=when == "before")
            else:
                ax.text(i + offset, 0.01, "diverged", rotation=90, ha="center", va="bottom", color=colour)
    book = results[0]["book_ratio"]
    line = ax.axhline(book, color=BOOK, linestyle="--", linewidth=1.2)
    tops = [r[when]["ratio_ci"][1] for r in results for when in ("before", "after") if r[when]]
    ax.set(
        xticks=range(len(lrs)),
        xticklabels=list(map(lr_label, lrs)),
        xlabel="learning rate",
        ylabel="share of new tokens that are among\nthe book's 100 most frequent",
        title="Frequent-token ratio",
        xlim=(-0.6, len(lrs) - 0.4),
        ylim=(0, min(1.12, 1.25 * max([*tops, book]))),
    )
    grey = {"edgecolor": "#555555"}
    handles = [Patch(facecolor="white", hatch="///", **grey), Patch(facecolor="#999999", **grey), line]
    labels = ["before", "after", f"the book itself: {book:.3f}"]
    ax.legend(handles, labels, loc="upper center", ncols=3, fontsize=8, frameon=False)


def draw_bar(ax: Axes, x: float, measured: list[dict], colour: str, before: bool) -> None:
    """One bar of `plot_ratio`: of `measured`, an evaluation for each seed, all of them before training or after."""
    ratios, (low, high) = [m["ratio"] for m in measured], measured[0]["ratio_ci"]
    ratio = float(np.mean(ratios))
    ax.bar(x, ratio, 0.36, facecolor="white" if before else colour, edgecolor=colour, hatch="///" if before else "")
    error = [[max(0.0, ratios[0] - low)], [max(0.0, high - ratios[0])]]
    ax.errorbar(x, ratios[0], error, color="#333333", capsize=4)
    if not before and len(ratios) > 1:
        ax.plot(x + np.linspace(-0.1, 0.1, len(ratios)), ratios, "o", color="black", markersize=3)
    # The book's line must not cross the number.
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    ax.text(x, max(high, *ratios) + 0.008, f"{ratio:.3f}", ha="center", va="bottom", fontsize=8, bbox=behind)


def plot_held_out(ax: Axes, results: list[Result], styles: dict[float, dict]) -> None:
    """Training loss (thin) and held-out loss (thick, with markers): where they part, memorising begins."""
    for result in results:
        style, losses = styles[result["lr"]], result["train_loss"]
        width = max(1, len(losses) // 20) | 1
        ax.plot(range(1, len(losses) + 1), smooth(losses, width), color=style["color"], linewidth=1.1, linestyle="--")
        label = label_once(ax, curve_label(result))
        ax.plot(*zip(*result["held_out_loss"]), **style, linewidth=2, markersize=5, label=label)
    ax.set(xlabel="samples trained on (optimizer steps)", ylabel="loss (nats per token)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    limit_losses(ax, results)
    grey = {"color": "#555555"}
    thick = Line2D([], [], linewidth=2, marker="o", label="held-out text", **grey)
    thin = Line2D([], [], linewidth=1.1, linestyle="--", label="training batches", **grey)
    legend_beside(ax, further=(thick, thin))


def new_figure(results: list[Result], width: float, panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, 4.8), dpi=150, layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0].tolist()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)
    figure.suptitle(f"What the learning rate does to a fine-tune\n{describe(results)}", fontsize=11)
    return figure, axes


def plot_all(results: list[Result], folder: Path) -> list[Path]:
    """Write the figures of `results` (see `find_results`) to `folder`; returns their files."""
    styles = style_of([result["lr"] for result in results])
    figure, (left, right) = new_figure(results, 12, 2)
    plot_loss(left, results, styles)
    plot_ratio(right, results, styles)
    figure.savefig(folder / FIGURE_FILE)
    files = [folder / FIGURE_FILE]
    held_out = [result for result in results if result["held_out_loss"]]
    finished = [result for result in results if result["after"]]
    for file, panel, usable in (
        (HELD_OUT_FILE, plot_held_out, held_out),
        (FINAL_FILE, plot_final_held_out, held_out),
        (FORGETTING_FILE, plot_forgetting, held_out),
        (COPYING_FILE, plot_copying, results),
        (WEIGHTS_FILE, plot_weight_change, finished),
    ):
        if usable:
            figure, (ax,) = new_figure(usable, 9, 1)
            panel(ax, usable, styles)
            figure.savefig(folder / file)
            files.append(folder / file)
    return files


def main() -> None:
    parser = Parser(prog="python -m evaluate.plot", description="Draw the figures of finished runs; needs no model.")
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run folders or sweep folders")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the pictures go (default: the first of RUNS)")
    args = parser.parse_args()
    try:
        files = plot_all(find_results(args.runs), args.out or Path(args.runs[0]))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(*files, sep="\n")


if __name__ == "__main__":
    main()
