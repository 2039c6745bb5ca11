"""What the repository keeps of the demo, and the README quotes: table, figures, and how far seeds scatter.

python -m train.sweep demo
python -m train.sweep demo --no-save-model --seeds 5 --dtype bfloat16 --out runs/bfloat16   # and float32
python -m tests.demo runs/demo runs/bfloat16 runs/float32
python -m train.find --text voyage --model lilliput     # its last two lines are mine.txt
"""

import sys
from pathlib import Path

from evaluate.results import FIGURE_FILE, HELD_OUT_FILE, TABLE_FILE, Run, describe, find_runs, lr_label
from evaluate.table import over_seeds

DEMO = Path(__file__).resolve().parent.parent / "model" / "lilliput" / "demo"


def orders(runs: list[Run]) -> list[str]:
    """In how many seeds the ratio of the largest rate is the highest and the lowest of all rates, and below the base
    model's, by each kind of ratio."""
    largest, seeds, lines = max(run.lr for run in runs), sorted({run.seed for run in runs}), []
    for key, words in (("ratio", "drawn without top-k"), *runs[0].expected.items()):
        of_seed = [{run.lr: run.after[key] for run in runs if run.seed == seed} for seed in seeds]
        highest, lowest = (sum(choose(of, key=of.get) == largest for of in of_seed) for choose in (max, min))
        below = sum(of[largest] < runs[0].before[key] for of in of_seed)
        lines.append(
            f"Ratio {words}: that of {lr_label(largest)} is the highest of the three in {highest} of {len(seeds)}, the "
            f"lowest in {lowest}, below the base model's in {below}."
        )
    return lines


def seeds_page(folders: list[Path]) -> str:
    lines = ["The demo with other orders of the batches, each rate with the same ones; made by `python -m tests.demo`."]
    for folder in folders:
        runs = find_runs([folder])
        environment = runs[0].result["environment"]
        lines += ["", f"## {environment['dtype']}", "", f"{describe(runs)}; {environment['device_name']}.", ""]
        lines += [*over_seeds(runs), *(f"- {line}" for line in orders(runs))]
    return "\n".join(lines) + "\n"


def main() -> None:
    demo, *seeds = map(Path, sys.argv[1:])
    for name in (TABLE_FILE, FIGURE_FILE, HELD_OUT_FILE):
        (DEMO / name).write_bytes((demo / name).read_bytes())
    if seeds:
        (DEMO / "seeds.md").write_text(seeds_page(seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
