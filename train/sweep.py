"""Several learning rates, one after another, each from the same fresh weights; then the table and the figure.

python -m train.sweep --lrs 1e-4 1e-5 1e-6 --samples 800
"""

from evaluate.cli import Parser, positive_float, positive_int
from evaluate.plot import plot_all
from evaluate.report import REPORT_FILE, write_report
from evaluate.results import find_results, lr_label
from evaluate.table import TABLE_FILE, table
from train.cli import add_out_flags, add_training_flags
from train.run import begin, new_folder, run


def main() -> None:
    parser = Parser(
        prog="python -m train.sweep",
        description="What does the learning rate do to a fine-tune? Trains at each one and compares.",
    )
    parser.add_argument(
        "--lrs",
        type=positive_float,
        nargs="+",
        default=[1e-4, 1e-5, 1e-6],
        metavar="LR",
        help="learning rates, each constant (default: 1e-4 1e-5 1e-6)",
    )
    parser.add_argument(
        "--seeds",
        type=positive_int,
        default=1,
        metavar="N",
        help="repeat every learning rate with N different orders of batches, from --seed on: how much of a difference "
        "is chance? (default: %(default)s)",
    )
    add_out_flags(parser, "runs/MODEL-TEXT-SAMPLES")
    add_training_flags(parser)
    args = parser.parse_args()
    if len(set(map(lr_label, args.lrs))) < len(args.lrs):
        parser.error("--lrs names a learning rate twice; give each once")
    # Once is enough for `before`: the same weights, start tokens and luck for every learning rate.
    start = begin(parser, args)
    grid = [(lr, seed) for seed in range(args.seed, args.seed + args.seeds) for lr in args.lrs]
    for i, (lr, seed) in enumerate(grid, start=1):
        name = lr_label(lr) + (f"-seed{seed}" if args.seeds > 1 else "")
        print(f"learning rate {lr_label(lr)}, seed {seed} ({i} of {len(grid)})", flush=True)
        run(start, args, lr, seed, new_folder(start.folder / f"lr-{name}"))
    folder = start.folder
    results = find_results([folder])
    (folder / TABLE_FILE).write_text(table(results), encoding="utf-8")
    figures = plot_all(results, folder)
    report = write_report([folder], folder / REPORT_FILE, figures)
    print(f"\n{table(results)}")
    print(*figures, folder / TABLE_FILE, report, sep="\n")


if __name__ == "__main__":
    main()
