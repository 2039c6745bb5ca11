"""The figures, drawn from result files alone.

The colour of a learning rate is the same in all of them (`style_of`); the base model is grey, the book black. Levers
differ in the shape of lines and marks (`looks_of`).
"""

import math
from collections.abc import Iterable
from itertools import chain, count, cycle
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from data.files import write_whole
from evaluate.results import (
    CLOCK_FILE,
    FIGURE_FILE,
    HELD_OUT_FILE,
    LEVERS_FILE,
    PLAIN,
    PRICE_FILE,
    TITLES,
    Run,
    describe,
    lr_label,
    several_levers,
)

WIDTH, TALL, LOW = 5.6, 7.8, 5.0  # inches; so narrow that half a page, or a telephone, shows the letters large enough
# Colours that colour-blind eyes tell apart (after Okabe and Ito 2008), each with a marker of its own for
# prints in grey.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#7F3C1D", "#0072B2")
MARKERS = ("D", "v", "s", "P", "^", "X", "o")
SEVERAL = 4  # pairs of bars: of more, the numbers are small
MANY = 12  # runs of several levers: of more, curves and bars cannot be read
# Of levers: lines, and dark colours that no learning rate has.
DASHES = ("-", "--", ":", "-.", (0, (7, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 4)))
DARK = ("#000000", "#222288", "#115511", "#661166", "#661111", "#115566", "#555511")
GREY = "#555555"
EXPECTED_MARK = {"linestyle": "", "markersize": 8, "markerfacecolor": "white", "color": "black"}
RING = {"linestyle": "", "marker": "o", "markersize": 10, "markerfacecolor": "none", "color": "black", "zorder": 4}
BASE, BOOK = "#777777", "black"
SCALE = 2.0  # times the base model's loss: what is above is off the scale
CLOCK_SCALE = 4.0  # the clock shows this many times more above the base model's loss than the best goes below it


def style_of(lrs: list[float]) -> dict[float, dict]:
    """Colour and marker of each learning rate.

    A learning rate has a place of its own in the list, by its half decade, and so looks the same in
    every figure of every sweep; where two would fall together, the smaller one takes the next free place.
    """
    places: dict[float, int] = {}
    for lr in sorted(set(lrs), reverse=True):  # several seeds of one are one
        wanted, n = round(2 * math.log10(lr)), len(COLOURS)
        wanted_first = chain(((wanted + i) % n for i in range(n)), count(n))
        places[lr] = next(place for place in wanted_first if place not in places.values())
    # From the eighth on the colours come again, each with another marker.
    return {
        lr: {"color": COLOURS[place % n], "marker": MARKERS[(place + place // n) % n]} for lr, place in places.items()
    }


def looks_of(runs: list[Run]) -> dict[str, dict]:
    """Line and mark of each lever; empty if no rate was run with two: then each learning rate has its own mark."""
    levers = dict.fromkeys(run.lever for run in runs) if several_levers(runs) else ()
    looks = zip(levers, cycle(DASHES), cycle(MARKERS[:0:-1]))
    return {lever: {"linestyle": dash, "marker": shape} for lever, dash, shape in looks}


def styles_of(runs: list[Run]) -> dict[str, dict]:
    """How each run is drawn, by its name. With several levers no run has a place in the legend (see `key`)."""
    rates, looks = style_of([run.lr for run in runs]), looks_of(runs)
    return {
        run.name: rates[run.lr] | looks.get(run.lever, {}) | {"label": "_" * bool(looks) + run.name} for run in runs
    }


def key(runs: list[Run], styles: dict[str, dict]) -> tuple[list[Artist], list[Artist]]:
    """With several levers, two groups of a legend: the colours of the learning rates, and how each lever is drawn."""
    looks, square = looks_of(runs), {"linestyle": "", "marker": "s", "markersize": 9}
    rates = {run.lr: styles[run.name]["color"] for run in sorted(runs, key=lambda run: -run.lr) if looks}
    return (
        [Line2D([], [], color=colour, label=lr_label(lr), **square) for lr, colour in rates.items()],
        [Line2D([], [], color=GREY, label=lever or PLAIN, **look) for lever, look in looks.items()],
    )


def legend_above(ax: Axes, title: str, *groups: list[Artist]) -> None:
    """The panel's `title` and below it the legend, above the panel, where they hide nothing that is drawn.

    Each of the `groups` of further entries begins a row of its own.
    """
    own = list({entry.get_label(): entry for entry in ax.get_legend_handles_labels()[0]}.values())  # of seeds one

    def in_columns(count: int) -> list[list[Artist]]:
        entries = []
        for group in filter(None, (own, *groups)):
            entries += [Line2D([], [], linestyle="", label="")] * (-len(entries) % count) + group
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


def ticks_on(ax: Axes, steps: Iterable[int]) -> None:
    """About six ticks on the x axis, at round numbers or at the `steps` next to them, where something was measured."""
    measured = np.array(sorted(set(steps)))
    if not len(measured):  # every run diverged at its first step
        return
    round_numbers = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(measured[0], measured[-1])
    within = [number for number in round_numbers if number <= measured[-1]]
    nearest = {int(measured[np.abs(measured - number).argmin()]) for number in within}
    ax.set_xticks(sorted(nearest))


def loss_limit(runs: list[Run]) -> float:
    """Where the axes of losses and of KL end, in nats per token, if a run went beyond."""
    first = [run.train_loss[0] for run in runs if run.train_loss]
    return SCALE * (float(np.mean(first)) if first else 1.0)


def curve_style(run: Run, styles: dict[str, dict]) -> dict:
    """How the curve of a run is drawn; its label says why little of it may be seen."""
    label, held_out = styles[run.name]["label"], run.held_out[-1][1] if run.held_out else 0.0
    off = " (off the scale)" if run.after and max(run.last_loss, held_out) > loss_limit([run]) else ""
    return styles[run.name] | {"label": label + (off if run.after else " (diverged)")}


def smooth(values: list[float], width: int) -> np.ndarray:
    """Running mean over `width` values around each one; an odd `width` keeps it centred.

    At the beginning it takes in only as many on either side as there are before it, and so begins at the true first
    value; at the end there are fewer after it.
    """
    halves = [min(width // 2, i) for i in range(len(values))]
    return np.array([np.mean(values[i - half : i + half + 1]) for i, half in enumerate(halves)])


def plot_loss(ax: Axes, runs: list[Run], styles: dict[str, dict]) -> None:
    """Training loss against step: the raw values faint, a running mean over a twentieth of the steps on top."""
    width, trained = max(len(run.train_loss) for run in runs) // 20 | 1, [run for run in runs if run.train_loss]
    for run in trained:
        losses, style = run.train_loss, curve_style(run, styles)
        steps = np.arange(1, len(losses) + 1)
        ax.plot(steps, losses, color=style["color"], alpha=0.35, linewidth=0.8)
        marks = {"markevery": max(1, len(losses) // 12), "markersize": 6}
        ax.plot(steps, smooth(losses, width), **style, linewidth=2, **marks)
    ax.set(xlabel="training step (sample)", ylabel="nats per token")
    limit_losses(ax, runs)
    ticks_on(ax, (step for run in trained for step in range(1, len(run.train_loss) + 1)))
    mean = Line2D([], [], linewidth=2, label=f"mean of {width} steps", color=GREY)
    each = Line2D([], [], linewidth=0.8, label="each step", color=GREY)
    legend_above(ax, "Training loss", *key(runs, styles), [mean, each] if width > 1 else [])


def limit_losses(ax: Axes, runs: list[Run]) -> None:
    """Let a loss that exploded leave the picture at its top: on its scale all others would be one flat line."""
    top = loss_limit(runs)
    if ax.get_ylim()[1] > top:
        ax.set_ylim(top=top, bottom=ax.dataLim.ymin - 0.05 * top)


def plot_ratio(ax: Axes, runs: list[Run], styles: dict[str, dict]) -> None:
    """Bars of the ratio before and after each fine-tune, with 95 % intervals over the texts, and the book's own share.

    Of several seeds the bar is the mean and each seed a dot: the interval of one would say nothing of the others.
    """
    names, expected = list(dict.fromkeys(run.name for run in runs)), runs[0].expected
    small, tops = len(names) > SEVERAL, []
    for i, name in enumerate(names):
        seeds, colour = [run for run in runs if run.name == name], styles[name]["color"]
        for x, when in ((i - 0.2, "before"), (i + 0.2, "after")):
            measured = [m for run in seeds if (m := run.result[when])]
            if not measured:
                ax.text(x, 0.01, "diverged", rotation=90, ha="center", va="bottom", color=colour)
                continue
            ratios, bar = [m["ratio"] for m in measured], {"edgecolor": colour, "hatch": "///" * (when == "before")}
            ratio = float(np.mean(ratios))
            ax.bar(x, ratio, 0.36, facecolor="white" if when == "before" else colour, **bar)
            interval = measured[0]["ratio_ci"] if when == "before" or len(seeds) == 1 else None
            low, high = interval or (min(ratios), max(ratios))
            if interval:
                ax.errorbar(x, ratio, [[ratio - low], [high - ratio]], color="#333333", capsize=4)
            else:
                ax.plot(x + np.linspace(-0.1, 0.1, len(ratios)), ratios, "o", color="black", markersize=3)
            for key, mark in zip(expected, "dp"):
                ax.plot(x, np.mean([m[key] for m in measured]), marker=mark, **EXPECTED_MARK)
            tops.append(max(high, *(m[key] for m in measured for key in expected)))
            # The book's line must not cross the number.
            behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            place = {"ha": "center", "va": "bottom", "rotation": 90 if small else 0, "fontsize": 8 if small else 10}
            ax.text(x, tops[-1] + (0.022 if expected else 0.008), f"{ratio:.3f}", bbox=behind, **place)
    book, band = runs[0].book_ratio, runs[0].result["book"].get("ratio_ci")
    own = {"color": BOOK, "linestyle": "--", "linewidth": 1.2, "zorder": 1}
    ax.axhline(book, **own, label=f"the book{', held out' if band else ''}: {book:.3f}")
    if band:
        ax.axhspan(*band, color=BOOK, alpha=0.15, linewidth=0)
    ax.set(
        xlabel="learning rate",
        ylabel="ratio",
        xlim=(-0.6, len(names) - 0.4),
        ylim=(0, (1.3 if small else 1.15) * max([*tops, book])),  # room for the numbers
    )
    ax.set_xticks(range(len(names)), names, rotation=90 if looks_of(runs) or small else 0)
    keys = [
        Patch(facecolor="white", hatch="///", edgecolor=GREY, label="before"),
        Patch(facecolor="#999999", edgecolor=GREY, label="after"),
        *(Line2D([], [], label=words, marker=mark, **EXPECTED_MARK) for words, mark in zip(expected.values(), "dp")),
    ]
    legend_above(ax, "Share of new tokens among\nthe book's 100 most frequent", keys)


def plot_held_out(ax: Axes, runs: list[Run], styles: dict[str, dict]) -> None:
    """Loss on the held-out text (thick) and on the training text (thin): where they part, memorising begins."""
    for run in runs:
        style, thin = curve_style(run, styles), {"color": styles[run.name]["color"], "linewidth": 1.2}
        ax.plot(*zip(*run.path("sample", "training_text_loss")), **thin, linestyle="--")
        ax.plot(*zip(*run.held_out), **style, linewidth=2, markersize=6)
    ax.set(xlabel="training step (sample)", ylabel="nats per token")
    ticks_on(ax, (step for run in runs for step, _ in run.held_out))
    limit_losses(ax, runs)
    thick = Line2D([], [], linewidth=2, marker="o", label="held-out text", color=GREY)
    thin = Line2D([], [], linewidth=1.2, linestyle="--", label="training text", color=GREY)
    legend_above(ax, "Loss on held-out and on training text", [thick, thin])


def near_base(ax: Axes, runs: list[Run]) -> None:
    """The base model's held-out loss, dotted, and the axis near it.

    The panel reaches CLOCK_SCALE times as far above this loss as the best goes below it. A run that spoils the model
    leaves it, and the turn of another can be seen beside it.
    """
    base = runs[0].held_out[0][1]
    depth = max(base - min(run.lowest_held_out[1] for run in runs), 0.02 * base)
    ax.axhline(base, color=BASE, linewidth=1.6, linestyle=":", zorder=1, label="base model")
    room = 0.075 * (1 + CLOCK_SCALE)  # for the marks at the lowest
    ax.set(ylim=(base - (1 + room) * depth, base + CLOCK_SCALE * depth), ylabel="nats per token")


def plot_clock(ax: Axes, runs: list[Run], styles: dict[str, dict]) -> None:
    """Held-out loss against the sum of the rates so far: until a step is too large, all rates draw one curve."""
    near_base(ax, runs)
    seen, levers = [], looks_of(runs)
    for run in runs:
        (steps, losses), (step, lowest) = np.array(run.held_out).T[:, 1:], run.lowest_held_out
        clock, style = np.cumsum([0, *run.result["rates"]]), styles[run.name]
        sums = clock[steps.astype(int)]
        inside = sums[losses < ax.get_ylim()[1]]
        style = style if len(inside) else style | {"label": f"{style['label']} (above)"}
        ax.plot(sums, losses, **style, linewidth=0.8 if levers else 1.2, markersize=3 if levers else 5)
        if step > 0 and not levers:
            ax.plot(clock[step], lowest, **RING)
        seen += [*inside]
    if not levers:
        ax.plot([], [], **RING, label="its lowest loss")
    ax.set(xscale="log", xlabel="sum of the learning rates so far (rate x step)")
    if seen:
        ax.set_xlim(min(seen) / 1.3, max(seen) * 1.3)
    legend_above(ax, "Held-out loss by the clock", key(runs, styles)[0])


def plot_valleys(ax: Axes, runs: list[Run], styles: dict[str, dict]) -> None:
    """Held-out loss against the learning rate, stopped in time (a wide valley) and at the end (a narrow one).

    Every run is a point in both, the mean over the seeds a line. A run that diverged has no loss at the end, and one
    that ended above the panel none that fits: they are crosses at the top. With several levers there are only lines.
    """
    near_base(ax, runs)
    looks = looks_of(runs)
    gone = {run.lr: "diverged" for run in runs if not (run.after or looks)}
    for lever, dark in zip(dict.fromkeys(run.lever for run in runs), cycle(DARK)):
        own = [run for run in runs if run.lever == lever]
        turns = [(run, run.lowest_held_out[1]) for run in own]
        ends = [(run, run.end) for run in own if run.after or looks]
        for points, line, face, label in ((turns, "-", "white", "stopped in time"), (ends, "--", None, "at the end")):
            lrs = sorted({run.lr for run, _ in points})
            means = [np.mean([loss for run, loss in points if run.lr == lr]) for lr in lrs]
            if looks:
                thin = {"linewidth": 2, "label": lever or PLAIN} if points is ends else {"linewidth": 0.8, "marker": ""}
                ax.plot(lrs, means, **looks[lever] | thin, color=dark)
                continue
            ax.plot(lrs, means, color=GREY, linestyle=line, zorder=1)
            for run, loss in points:
                mark = {"linestyle": "", "markersize": 8, "label": "", "markerfacecolor": face}
                ax.plot(run.lr, loss, **styles[run.name] | mark)
            gone = {lr: f"{mean:.3g}" for lr, mean in zip(lrs, means) if mean > ax.get_ylim()[1]} | gone
            ax.plot([], [], color=GREY, linestyle=line, label=label, marker="o", markersize=8, markerfacecolor=face)
    if looks:
        ax.plot([], [], color=GREY, linewidth=0.8, label="thin: stopped in time")
    for lr, what in gone.items():
        colour = next(styles[run.name]["color"] for run in runs if run.lr == lr)
        cross = {"color": colour, "markersize": 11, "markeredgewidth": 2.5}
        ax.plot([lr], [0.96], "x", **cross, transform=ax.get_xaxis_transform())
        ax.annotate(what, (lr, 0.91), xycoords=ax.get_xaxis_transform(), ha="center", va="top", fontsize=9)
    lrs = sorted({run.lr for run in runs})
    ax.set(xscale="log", xlabel="learning rate")
    ax.set_xticks(lrs, list(map(lr_label, lrs)), rotation=90 if len(lrs) > 7 else 0)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.15)
    legend_above(ax, "The valley of each lever" if looks else "Two valleys")


def plot_price(ax: Axes, runs: list[Run], styles: dict[str, dict]) -> None:
    """What was learned against how far the model moved, as paths from the base model: to the lower left is better."""
    near_base(ax, runs)
    paths = {run: run.path("kl", "held_out_loss") for run in runs}
    for run, path in paths.items():
        mark = {"markevery": [-1] if run.after else [], "markersize": 6}
        ax.plot(*zip(*path), **styles[run.name] | mark | {"linewidth": 0.8})
    far = max(kl for path in paths.values() for kl, loss in path if loss <= path[0][1])
    ax.set(xlim=(0, 1.5 * far or 1), xlabel="KL from the base model (nats per token)")
    legend_above(ax, "Held-out loss, and its price (mark: the end)")


def new_figure(runs: list[Run], title: str, panels: int) -> tuple[Figure, list[Axes]]:
    height = (LOW, TALL, TALL + LOW)[panels - 1] + 0.3 * len(looks_of(runs))  # its legend is long
    figure = Figure(figsize=(WIDTH, height), dpi=200, layout="constrained")
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0].tolist()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#dddddd", linewidth=0.6)
        ax.tick_params(which="both", labelsize=12)  # ticks come only when it is drawn, wherever that is
        ax.set_axisbelow(True)
    figure.suptitle(title, fontsize=15, weight="bold")
    # parse_math: a text may be called cost_$5_and_$6, which is no formula.
    figure.supxlabel(describe(runs).replace("; ", ";\n"), fontsize=9, color=GREY, parse_math=False)
    return figure, axes


def figures(runs: list[Run]) -> dict[str, Figure]:
    """The figures of `runs` (see `find_runs` and `Baseline.runs`), by the names of their files.

    A figure that nothing was measured for, or that would be a single dot, is left out.
    """
    styles = styles_of(runs)
    held_out = [run for run in runs if run.held_out]
    moved = {run.name for run in held_out if len(run.held_out) > 1}
    levers, few = several_levers(runs), len({run.name for run in runs}) <= MANY
    priced = [run for run in held_out if run.path("held_out_loss", "kl")]
    found = {}
    for file, panels, usable, enough in (
        (FIGURE_FILE, (plot_loss, plot_ratio), runs, few or not levers),
        (HELD_OUT_FILE, (plot_held_out,), held_out, len(moved) > 0 and not levers),
        (CLOCK_FILE, (plot_clock, plot_valleys), held_out, len(moved) > 1 and not levers),
        (LEVERS_FILE, (plot_valleys, plot_clock, plot_price), held_out, len(moved) > 1 and levers),
        (PRICE_FILE, (plot_price,), priced, any(len(run.path("kl")) > 1 for run in priced) and not levers),
    ):
        if enough:
            with rc_context({"font.size": 12, "legend.fontsize": 11}):
                found[file], axes = new_figure(usable, TITLES[file], len(panels))
                for panel, ax in zip(panels, axes):
                    # One seed of each: more curves cannot be followed.
                    first = file == LEVERS_FILE and panel is not plot_valleys
                    panel(ax, [run for run in usable if run.seed == runs[0].seed] if first else usable, styles)
    return found


def plot_all(runs: list[Run], folder: Path) -> list[Path]:
    """Write the `figures` of `runs` to `folder`; returns their files."""
    drawn = figures(runs)
    for file, figure in drawn.items():
        write_whole(folder / file, figure.savefig)
    return [folder / file for file in drawn]
