"""What the repository keeps of the demo, and the README quotes: table, figures, and how far seeds scatter.

make demo
python -m train.sweep DEMO_FLAGS --no-save-model --seeds 5 --dtype bfloat16 --out runs/bfloat16   # and float32
python -m tests.demo runs/demo runs/bfloat16 runs/float32
python -m evaluate runs/demo/lr-3e-4 --top-k 50 > model/lilliput/demo/top_k.md
make mine TEXT=voyage MODEL=lilliput | tail -2 > model/lilliput/demo/mine.txt
"""

import sys
from pathlib import Path

from evaluate.results import FIGURE_FILE, HELD_OUT_FILE, TABLE_FILE, Run, describe, find_runs, lr_label
from evaluate.table import over_seeds

DEMO = Path(__file__).resolve().parent.parent / "model" / "lilliput" / "demo"


def nearer(runs: list[Run]) -> str:
    """In how many seeds the ratio of the largest rate ends nearer to the book's than that of the smallest."""
    off = {(run.lr, run.seed): abs(run.after["ratio"] - run.result["book_ratio"]) for run in runs}
    large, small = (choose(run.lr for run in runs) for choose in (max, min))
    seeds = [seed for lr, seed in off if lr == large]
    count = sum(off[large, seed] < off[small, seed] for seed in seeds)
    lead = f"Nearer to the book's ratio than {lr_label(small)} with the same seed"
    return f"{lead}: {lr_label(large)} in {count} of {len(seeds)}."


def seeds_page(folders: list[Path]) -> str:
    lines = ["The demo with other orders of the batches, each rate with the same ones; made by `python -m tests.demo`."]
    for folder in folders:
        runs = find_runs([folder])
        environment = runs[0].result["environment"]
        lines += ["", f"## {environment['dtype']}", "", f"{describe(runs)}; {environment['device_name']}.", ""]
        lines += [*over_seeds(runs), nearer(runs)]
    return "\n".join(lines) + "\n"


def main() -> None:
    demo, *seeds = map(Path, sys.argv[1:])
    for name in (TABLE_FILE, FIGURE_FILE, HELD_OUT_FILE):
        (DEMO / name).write_bytes((demo / name).read_bytes())
    if seeds:
        (DEMO / "seeds.md").write_text(seeds_page(seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
