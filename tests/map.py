"""A map of learning rates on three texts: where the held-out loss turns, counted over seeds and precisions.

For each TEXT, H in: voyage, 0.5; a book of 48,791 tokens, 0.168; gulliver, 0.0511. For each D in bfloat16, float32:
python -m train.sweep --model lilliput --text TEXT --batch-size 4 --seq-len 128 --holdout H --top-k 0 \\
    --eval-sequences 2 --eval-tokens 8 --no-save-model --seeds 5 --dtype D \\
    --lrs 3e-3 1e-3 3e-4 1e-4 --samples 100 --out runs/NAME-D-100   # and --lrs 3e-5 --samples 240 --out runs/NAME-D-240
make map
python -m tests.map runs/map runs/*-100 runs/*-240   # also keeps the figure of the first
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from evaluate.results import CLOCK_FILE, Run, find_runs, halves, lr_label, read_result, run_folders, runs_of
from evaluate.table import markdown

MAP = Path(__file__).resolve().parent.parent / "model" / "lilliput" / "map"
DECADE = (3e-5, 1e-4, 3e-4)  # learning rates
STEP, CLOCK = 100, 0.006  # the rates are compared after this number of steps, and at this sum of the rates
FAR_ON = 0.024


def between(values: Iterable[float], form: str) -> str:
    """From the lowest of `values` to the highest."""
    shown = [format(value, form) for value in sorted(values)]
    return " to ".join(dict.fromkeys((shown[0], shown[-1]))) if shown else "–"


def spread(values: Iterable[float]) -> str:
    """Mean (lowest to highest) of losses, in nats per token."""
    values = list(values)
    return f"{np.mean(values):.3f} ({between(values, '.3f')})" if values else ""


def at_clock(run: Run, clock: float = CLOCK) -> list[float]:
    """The held-out loss where rate x step is nearest to `clock`; nothing if that lies outside the measured steps."""
    step, losses = clock / run.lr, dict(run.held_out[1:])
    inside = losses and min(losses) <= step <= max(losses)
    return [losses[min(losses, key=lambda measured: abs(measured - step))]] if inside else []


def turns(run: Run) -> bool:
    """Whether the held-out loss falls below the base model's, and is lowest before the last step."""
    return 0 < run.lowest_held_out[0] < run.held_out[-1][0]


def counted(runs: list[Run]) -> list[str]:
    """What holds in how many pairs of seed and precision."""

    def each(lrs: Iterable[float], holds: Callable[[Run], bool]) -> str:
        found = {lr: [holds(run) for run in runs if run.lr == lr] for lr in lrs}
        return ", ".join(f"{lr_label(lr)} in {sum(of_lr)} of {len(of_lr)}" for lr, of_lr in found.items()) + "."

    pairs: dict[tuple, dict[float, Run]] = {}
    for run in runs:
        pairs.setdefault((run.seed, run.result["environment"]["dtype"]), {})[run.lr] = run
    decades = [[pair[lr] for lr in DECADE] for pair in pairs.values() if pair.keys() >= set(DECADE)]
    in_time = [np.ptp([run.lowest_held_out[1] for run in decade]) for decade in decades]
    after = [np.ptp([dict(run.held_out)[STEP] for run in decade]) for decade in decades]
    sums = [[run.lr * run.lowest_held_out[0] for run in decade] for decade in decades if all(map(turns, decade))]
    fell = [run for run in runs if run.lowest_held_out[0] > 0]
    both = [np.array([halves(p) for p in run.points if "held_out_windows" in p]) for run in fell]  # (points, 2) each
    chosen = [points[points[:, 0].argmin()] for points in both]
    cost = [best[1] - points[:, 1].min() for best, points in zip(chosen, both)]
    falls = [points[0] - best for best, points in zip(chosen, both)]
    return [
        f"Stopped in time, {', '.join(map(lr_label, DECADE))} lie nearer to each other than after {STEP} steps in "
        f"{sum(a < b for a, b in zip(in_time, after))} of {len(decades)}: within {between(in_time, '.3f')} nats, not "
        f"{between(after, '.3f')}.",
        f"All three turn in {len(sums)} of {len(decades)}: rate x step at their turns lies within a factor of "
        f"{between((max(three) / min(three) for three in sums), '.1f')}.",
        "Of the runs that fall below the base model, the second half is not lowest where the first is in "
        f"{sum(nats > 0 for nats in cost)} of {len(cost)}: choosing by the first costs {spread(cost)} nats.",
        f"At the chosen step the first half has fallen further than the second in {sum(a > b for a, b in falls)} of "
        f"{len(falls)}: by {spread(a for a, _ in falls)} nats, not {spread(b for _, b in falls)}.",
        "Ever more than 0.01 nats below the base model's loss: "
        + each((1e-3, 3e-3), lambda run: run.held_out[0][1] - min(loss for _, loss in run.held_out) > 0.01),
        "Turn within their steps: " + each(dict.fromkeys(run.lr for run in runs), turns),
    ]


def page(folders: list[str]) -> str:
    runs = runs_of([read_result(folder) for folder in run_folders(folders)])
    lines = ["By `python -m tests.map`. Losses: mean (lowest to highest). The first half of the held-out text chooses."]
    for text in dict.fromkeys(run.result["settings"]["text_name"] for run in runs):
        of_text = [run for run in runs if run.result["settings"]["text_name"] == text]
        result, settings = of_text[0].result, of_text[0].result["settings"]
        read = STEP * settings["batch_size"] * settings["seq_len"] / (result["book_tokens"] - result["held_out_tokens"])
        base = spread(run.held_out[0][1] for run in of_text)
        lines += [f"\n## {text}\n\nBase model: {base} nats. {STEP} steps read the training text {read:.1f} times.\n"]
        titles = ["rate", "runs", "lowest held-out loss", "at step", "rate x step there"]
        titles += [f"loss at step {STEP}", f"loss at rate x step {CLOCK}"]
        rows = []
        for lr in dict.fromkeys(run.lr for run in of_text):
            of_lr = [run for run in of_text if run.lr == lr]
            steps, losses = zip(*(run.lowest_held_out for run in of_lr))
            row = [lr_label(lr), str(len(of_lr)), spread(losses), between(steps, "d")]
            row += [between((lr * step for step in steps), "#.2g")]
            row += [spread(loss for run in of_lr for step, loss in run.held_out if step == STEP)]
            rows.append([*row, spread(loss for run in of_lr for loss in at_clock(run))])
        lines += [*markdown(titles, rows), "", *(f"- {sentence}" for sentence in counted(of_text))]
    return "\n".join(lines) + "\n"


def far_on(runs: list[Run]) -> str:
    losses = [f"{loss:.3f} at {lr_label(run.lr)}" for run in runs for loss in at_clock(run, FAR_ON)]
    return f"\nOne run of `make map`, held-out loss at rate x step {FAR_ON}: {', '.join(losses)}.\n"


if __name__ == "__main__":
    whole, *study = sys.argv[1:]
    MAP.mkdir(exist_ok=True)
    (MAP / "map.md").write_text(page(study) + far_on(find_runs([whole])), encoding="utf-8")
    (MAP / CLOCK_FILE).write_bytes((Path(whole) / CLOCK_FILE).read_bytes())
