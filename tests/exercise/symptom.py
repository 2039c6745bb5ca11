"""Runs a small version of the README's experiment at three learning rates, prints losses and ratios as JSON, and
compares two runs."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from data.settings import Sampling
from evaluate.report.plots import Figure, style_of
from evaluate.results import lr_label
from train.experiment import experiment

LRS = (3e-3, 3e-4, 3e-5)
SEEN = 0.05  # nats; a loss that differs by this much at some sample is a symptom
SEEN_RATIO = 0.05
SYMPTOM_FILE = "symptom.png"


def main(lrs: Sequence[float]) -> None:
    sampling = Sampling(sequences=48, new_tokens=48, top_k=0)
    rows = []
    for lr in lrs:
        found = experiment(
            lr, samples=40, model="lilliput", text="voyage", batch_size=4, seq_len=128, holdout=0.5, sampling=sampling
        )
        after = found.after.ratio if found.after else None
        rows.append({"lr": lr, "losses": found.losses, "before": found.before.ratio, "after": after})
    print(json.dumps(rows))


def symptom(folder: Path, healthy: list[dict], faulty: list[dict] | None) -> tuple[str, bool]:
    """A table of the healthy and the faulty losses and ratios, drawn to a figure too; and whether they differ."""
    if faulty is None:
        return "The faulty code stops with an error.", False
    lines, seen = [f"{'':8}{'healthy: loss, ratio':>28}{'here: loss, ratio':>28}"], False
    for a, b in zip(healthy, faulty):
        seen |= len(a["losses"]) != len(b["losses"]) or a["after"] is None or b["after"] is None
        seen |= any(not abs(x - y) < SEEN for x, y in zip(a["losses"], b["losses"]))
        seen |= any(not abs((a[when] or 0) - (b[when] or 0)) < SEEN_RATIO for when in ("before", "after"))
        lines.append(f"{lr_label(a['lr']):8}{in_numbers(a):>28}{in_numbers(b):>28}")
    plot(healthy, faulty, folder / SYMPTOM_FILE)
    return "\n".join([*lines, f"losses and ratios as a figure: {os.path.relpath(folder / SYMPTOM_FILE)}"]), seen


def in_numbers(row: dict) -> str:
    if row["after"] is None:
        return f"diverged at sample {len(row['losses'])}"
    last = sum(row["losses"][-4:]) / 4
    return f"{row['losses'][0]:.2f} to {last:.2f}, {row['before']:.2f} to {row['after']:.2f}"


def plot(healthy: list[dict], faulty: list[dict], file: Path) -> None:
    figure = Figure(figsize=(9, 6), dpi=120, layout="constrained")
    styles = style_of([row["lr"] for row in healthy])
    panels = figure.subplots(2, 2, sharey="row", sharex="row")
    for column, (title, rows) in enumerate((("healthy", healthy), ("here", faulty))):
        losses, ratios = panels[:, column]
        for i, row in enumerate(rows):
            style, label = styles[row["lr"]], lr_label(row["lr"])
            losses.plot(range(1, len(row["losses"]) + 1), row["losses"], **style, label=label, markevery=6)
            ratios.bar([i - 0.2], [row["before"]], 0.4, color="white", edgecolor=style["color"], hatch="//")
            ratios.bar([i + 0.2], [row["after"] or 0], 0.4, color=style["color"])
        losses.set(title=title, xlabel="sample", ylabel="training loss (nats per token)")
        losses.legend(frameon=False, title="learning rate")
        ratios.set(xlabel="learning rate; before (hatched) and after", ylabel="frequent-token ratio")
        ratios.set_xticks(range(len(rows)), [lr_label(row["lr"]) for row in rows])
    figure.savefig(file)


if __name__ == "__main__":
    main(list(map(float, sys.argv[1:])) or LRS)
