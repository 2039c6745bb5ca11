"""What levers do to the valley of learning rates: the figure of `make levers`, and its numbers over several orders.

make levers
For each D in bfloat16, float32, each S in 0 to 4, and each LEVER of `make levers`:
python -m train.sweep --model lilliput --text voyage --lrs 1e-4 3e-4 3e-5 1e-3 --samples 100 --batch-size 4 \\
    --seq-len 128 --holdout 0.5 --top-k 0 --eval-sequences 32 --eval-tokens 64 --no-save-model --dtype D --seed S \\
    LEVER --out runs/D-S
python -m tests.levers runs/levers runs/bfloat16-? runs/float32-?
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from evaluate.results import LEVERS_FILE, PLAIN, Run, describe, find_runs, lr_label
from evaluate.table import markdown
from evaluate.valleys import VALLEYS, valleys
from tests.map import between, spread

FOLDER = Path(__file__).resolve().parent.parent / "model" / "lilliput" / "levers"
WARM = "cosine warm-up 20"

Order = dict[tuple[str, float], Run]  # the runs of one seed and precision by lever and learning rate


def kl(run: Run) -> float:
    return run.after["forgetting"]["base_texts"]["kl"]


def at_sum(run: Run, wanted: float) -> float:
    """The held-out loss of `run` where the sum of its rates so far is nearest to `wanted`."""
    sums = np.cumsum([0.0, *run.result["rates"]])
    return min(run.held_out, key=lambda point: abs(sums[point[0]] - wanted))[1]


def sentences(orders: list[Order]) -> list[str]:
    """What holds in how many orders."""

    def count(holds: Callable[[Order], bool]) -> str:
        return f"{sum(map(holds, orders))} of {len(orders)}"

    lines = []
    for lr in (1e-4, 3e-4, 1e-3):
        plain, decayed = ([order[lever, lr] for order in orders] for lever in ("", "linear"))
        as_far = [at_sum(a, sum(b.result["rates"])) for a, b in zip(plain, decayed)]
        lines.append(
            f"Linear decay at {lr_label(lr)}: {spread(run.end for run in decayed)} at the end; the constant rate where "
            f"its sum of rates is the same: {spread(as_far)}, at its own end {spread(run.end for run in plain)}."
        )
    apart = [abs(order["clip 1", lr].end - order["", lr].end) for order in orders for lr in (3e-5, 1e-4, 3e-4, 1e-3)]
    lines.append(f"Clipping changes the loss at the end by {between(apart, '.3f')} nats.")
    for lr in (1e-4, 3e-4, 1e-3):
        lows = {lever: [order[lever, lr].lowest_held_out[1] for order in orders] for lever in ("", WARM)}
        lines.append(f"Lowest at {lr_label(lr)}: {spread(lows[''])} with nothing, {spread(lows[WARM])} with a warm-up.")
    for lr in (3e-4, 1e-3):
        best = count(lambda order: order["leash 1", lr].end < min(order["", lr].end, order["linear", lr].end))
        lines.append(f"The leash ends below nothing and below the linear decay at {lr_label(lr)} in {best}.")
    small = [min(order["", lr].lowest_held_out[1] for lr in (3e-5, 1e-4)) for order in orders]
    any_end = [min(run.end for (lever, _), run in order.items() if lever) for order in orders]
    gained = [a - b for a, b in zip(small, any_end)]
    lines.append(
        f"The best end with any lever lies {between(gained, '+.3f')} nats below the best of constant 3e-5 and 1e-4 "
        "stopped in time."
    )
    return lines


def page(folders: list[str]) -> str:
    groups = [find_runs([folder]) for folder in folders]
    orders = [{(run.lever, run.lr): run for run in runs} for runs in groups]
    levers = list(dict.fromkeys(lever for order in orders for lever, _ in order))
    lrs = sorted({lr for order in orders for _, lr in order})
    rows, widths = [], [{lever: width.split()[0] for lever, *_, width in valleys(runs)} for runs in groups]
    for lever in levers:
        cells = []
        for lr in lrs:
            of_lr = [order[lever, lr] for order in orders if (lever, lr) in order]
            cells.append(f"{spread(run.end for run in of_lr)}, KL {np.mean(list(map(kl, of_lr))):.2f}" if of_lr else "")
        factors = [width[lever or PLAIN] for width in widths]
        often = sorted(set(factors), key=factors.count, reverse=True)
        wide = ", ".join(f"{factor} ({factors.count(factor)})" for factor in often)
        rows.append([lever or PLAIN, *cells, wide])
    seeds = {run.seed for runs in groups for run in runs}
    dtypes = {run.result["environment"]["dtype"] for runs in groups for run in runs}
    machine = groups[0][0].result["environment"]["device_name"]
    return "\n".join(
        [
            f"By `python -m tests.levers`: {describe(groups[0][:1])}. {len(groups)} orders: seeds "
            f"{', '.join(map(str, sorted(seeds)))}, {' and '.join(sorted(dtypes))}; {machine}. Held-out loss at the "
            f"end, mean (lowest to highest), and KL from the base model. {VALLEYS}; in brackets: in how many orders.",
            "",
            *markdown(["lever", *map(lr_label, lrs), "valley (orders)"], rows),
            "",
            *(f"- {sentence}" for sentence in sentences(orders)),
        ]
    )


def main() -> None:
    whole, *study = sys.argv[1:]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "levers.md").write_text(page(study) + "\n", encoding="utf-8")
    (FOLDER / LEVERS_FILE).write_bytes((Path(whole) / LEVERS_FILE).read_bytes())


if __name__ == "__main__":
    main()
