"""The figures, from the result files alone: what the exercise sees (loss and ratio), what it hides (held-out loss)."""

import math
from pathlib import Path

import numpy as np

from evaluate.report.drawing import Axes, Figure, Line2D, Patch, rc_context
from evaluate.report.figures import (
    BASE,
    BOOK,
    curve_label,
    label_once,
    legend_above,
    loss_limit,
    off_the_scale,
    plot_copying,
    plot_final_held_out,
    plot_forgetting,
    plot_weight_change,
    ticks_on,
)
from evaluate.report.titles import (
    COPYING_FILE,
    FIGURE_FILE,
    FINAL_FILE,
    FORGETTING_FILE,
    HELD_OUT_FILE,
    TITLES,
    WEIGHTS_FILE,
)
from evaluate.results import Result, describe, lowest_held_out, lr_label, own_terms_label, path

WIDTH, TALL, LOW = 5.6, 7.8, 5.0  # inches; so narrow that half a page, or a telephone, shows the letters large enough
# Colours that colour-blind eyes tell apart (after Okabe and Ito 2008), each with a marker of its own for
# prints in grey.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#7F3C1D", "#0072B2")
MARKERS = ("D", "v", "s", "P", "^", "X", "o")
SEVERAL = 4  # learning rates; of more, the numbers on the bars are small
GREY = "#555555"
OWN_TERMS = {"linestyle": "", "marker": "d", "markersize": 8, "markerfacecolor": "white", "color": "black"}
RING = {"linestyle": "", "marker": "o", "markersize": 13, "markerfacecolor": "none", "color": "black", "zorder": 4}


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
    """Running mean over `width` values around each one; an odd `width` keeps it centred.

    At the beginning it takes in only as many on either side as there are before it, and so begins at the true first
    value; at the end there are fewer after it.
    """
    halves = [min(width // 2, i) for i in range(len(values))]
    return np.array([np.mean(values[i - half : i + half + 1]) for i, half in enumerate(halves)])


def smoothing(results: list[Result]) -> int:
    """Over how many samples the training losses of `results` are smoothed: a twentieth of them, an odd number."""
    return max(len(result["train_loss"]) for result in results) // 20 | 1


def plot_loss(ax: Axes, results: list[Result], styles: dict[float, dict]) -> None:
    """Training loss against sample: the raw values faint, a running mean on top."""
    width, trained = smoothing(results), [result for result in results if result["train_loss"]]
    for result in trained:
        losses, style = result["train_loss"], styles[result["lr"]]
        samples = np.arange(1, len(losses) + 1)
        label = label_once(ax, curve_label(result))
        ax.plot(samples, losses, color=style["color"], alpha=0.35, linewidth=0.8)
        marks = {"markevery": max(1, len(losses) // 12), "markersize": 6}
        ax.plot(samples, smooth(losses, width), **style, label=label, linewidth=2, **marks)
    ax.set(xlabel="sample (optimizer step)", ylabel="nats per token")
    limit_losses(ax, results)
    ticks_on(ax, (sample for result in trained for sample in range(1, len(result["train_loss"]) + 1)))
    mean = Line2D([], [], linewidth=2, label=f"mean of {width} samples", color=GREY)
    each = Line2D([], [], linewidth=0.8, label="each sample", color=GREY)
    legend_above(ax, "Training loss", [mean, each] if width > 1 else [])


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
                draw_bar(ax, i + offset, measured, colour, before=when == "before", small=len(lrs) > SEVERAL)
                draw_own_terms(ax, i + offset, [run for run in runs if run[when]], when)
            else:
                ax.text(i + offset, 0.01, "diverged", rotation=90, ha="center", va="bottom", color=colour)
    book, bent = results[0]["book_ratio"], [label for label in map(own_terms_label, results) if label]
    ax.axhline(book, color=BOOK, linestyle="--", linewidth=1.2, label=f"the book: {book:.3f}")
    measured = [r[when] for r in results for when in ("before", "after") if r[when]]
    tops = [max(m["ratio_ci"][1], m["untruncated_ratio"] if bent else 0) for m in measured]
    ax.set(
        xticks=range(len(lrs)),
        xticklabels=list(map(lr_label, lrs)),
        xlabel="learning rate",
        ylabel="ratio",
        xlim=(-0.6, len(lrs) - 0.4),
        ylim=(0, (1.3 if len(lrs) > SEVERAL else 1.15) * max([*tops, book])),  # room for the numbers
    )
    keys = [
        Patch(facecolor="white", hatch="///", edgecolor=GREY, label="before"),
        Patch(facecolor="#999999", edgecolor=GREY, label="after"),
        *([Line2D([], [], label=bent[0], **OWN_TERMS)] if bent else []),
    ]
    legend_above(ax, "Share of new tokens among\nthe book's 100 most frequent", keys)


def draw_bar(ax: Axes, x: float, measured: list[dict], colour: str, before: bool, small: bool) -> None:
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
    place = {"ha": "center", "va": "bottom", "rotation": 90 if small else 0, "fontsize": 8 if small else 10}
    ax.text(x, max(high, *ratios) + 0.008, f"{ratio:.3f}", bbox=behind, **place)


def draw_own_terms(ax: Axes, x: float, runs: list[Result], when: str) -> None:
    """Mark on a bar the ratio by the models' own probabilities, where the bar is not of them: only the mark can be held
    against the book's line."""
    if any(map(own_terms_label, runs)):
        ax.plot(x, np.mean([run[when]["untruncated_ratio"] for run in runs]), **OWN_TERMS)


def plot_held_out(ax: Axes, results: list[Result], styles: dict[float, dict]) -> None:
    """Training loss (thin) and held-out loss (thick, with markers): where they part, memorising begins."""
    width = smoothing(results)
    for result in results:
        style, losses = styles[result["lr"]], result["train_loss"]
        ax.plot(range(1, len(losses) + 1), smooth(losses, width), color=style["color"], linewidth=1.2, linestyle="--")
        label = label_once(ax, curve_label(result))
        ax.plot(*zip(*result["held_out_loss"]), **style, linewidth=2, markersize=6, label=label)
    ax.set(xlabel="samples trained on (optimizer steps)", ylabel="nats per token")
    ticks_on(ax, held_out_samples(results))
    limit_losses(ax, results)
    thick = Line2D([], [], linewidth=2, marker="o", label="held-out text", color=GREY)
    mean = f", mean of {width}" if width > 1 else ""
    thin = Line2D([], [], linewidth=1.2, linestyle="--", label=f"training{mean}", color=GREY)
    legend_above(ax, "Loss on held-out text and in training", [thick, thin])


def held_out_samples(results: list[Result]) -> list[int]:
    return [sample for result in results for sample, _ in result["held_out_loss"]]


def plot_turn(ax: Axes, results: list[Result], styles: dict[float, dict]) -> None:
    """The held-out losses alone, near the base model's: where does each turn?

    The panel reaches as far above the base model's loss as the best goes below it. A run that spoils the model leaves
    it, and the turn of another can be seen beside it.
    """
    base = results[0]["held_out_loss"][0][1]
    for result in results:
        style, lowest = styles[result["lr"]], lowest_held_out(result)
        ax.plot(*zip(*result["held_out_loss"]), **style, linewidth=2, markersize=6)
        if lowest[0] > 0:
            ax.plot(*lowest, **RING)
    depth = max(base - min(lowest_held_out(result)[1] for result in results), 0.02 * base)
    ax.axhline(base, color=BASE, linewidth=1.6, linestyle=":", zorder=1)
    ax.set(ylim=(base - 1.15 * depth, base + depth), xlabel="samples trained on (optimizer steps)")
    ax.set(ylabel="nats per token")
    ticks_on(ax, held_out_samples(results))
    dotted = Line2D([], [], color=BASE, linewidth=1.6, linestyle=":", label="base model")
    legend_above(ax, "Closer: held-out text alone", [dotted, Line2D([], [], label="its lowest loss", **RING)])


def new_figure(results: list[Result], title: str, panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, TALL if panels > 1 else LOW), dpi=200, layout="constrained")
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0].tolist()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)
    figure.suptitle(title, fontsize=15, weight="bold")
    # parse_math: a text may be called cost_$5_and_$6, which is no formula.
    figure.supxlabel(describe(results).replace("; ", ";\n"), fontsize=9, color=GREY, parse_math=False)
    return figure, axes


def plot_all(results: list[Result], folder: Path) -> list[Path]:
    """Write the figures of `results` (see `find_results`) to `folder`; returns their files.

    A figure that nothing was measured for, or that would be a single dot, is left out.
    """
    styles = style_of([result["lr"] for result in results])
    held_out = [result for result in results if result["held_out_loss"]]
    finished = [result for result in results if result["after"]]
    ended = [result for result in held_out if result["after"] and not off_the_scale(result)]
    forgetting = [result for result in held_out if path(result, "held_out_loss", "kl")]
    copying = [result for result in results if path(result, "copied")]
    files = []
    for file, panels, usable, enough in (
        (FIGURE_FILE, (plot_loss, plot_ratio), results, True),
        (HELD_OUT_FILE, (plot_held_out, plot_turn), held_out, any(len(r["held_out_loss"]) > 1 for r in held_out)),
        (FINAL_FILE, (plot_final_held_out,), held_out, len(ended) > 1),
        (FORGETTING_FILE, (plot_forgetting,), forgetting, any(len(path(r, "kl")) > 1 for r in forgetting)),
        (COPYING_FILE, (plot_copying,), copying, any(len(path(r, "copied")) > 1 for r in copying)),
        (WEIGHTS_FILE, (plot_weight_change,), finished, bool(finished)),
    ):
        if enough:
            with rc_context({"font.size": 12, "legend.fontsize": 11}):
                figure, axes = new_figure(usable, TITLES[file], len(panels))
                for panel, ax in zip(panels, axes):
                    panel(ax, usable, styles)
                figure.savefig(folder / file)
            files.append(folder / file)
    return files
