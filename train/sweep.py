"""Several learning rates, one after another, each from the same fresh weights; then the table and the figure.

python -m train.sweep --lrs 1e-4 1e-5 1e-6 --samples 800
"""

from evaluate.cli import Parser, positive_float
from evaluate.plot import plot_all
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
    add_out_flags(parser, "runs/MODEL-TEXT-SAMPLES")
    add_training_flags(parser)
    args = parser.parse_args()
    if len(set(map(lr_label, args.lrs))) < len(args.lrs):
        parser.error("--lrs names a learning rate twice; give each once")
    # `before` once is enough: the same weights, start tokens and luck for every learning rate.
    setup, device, folder, before = begin(parser, args)
    for i, lr in enumerate(args.lrs, start=1):
        print(f"learning rate {lr_label(lr)} ({i} of {len(args.lrs)})", flush=True)
        run(setup, args, device, lr, new_folder(folder / f"lr-{lr_label(lr)}"), before)
    results = find_results([folder])
    (folder / TABLE_FILE).write_text(table(results), encoding="utf-8")
    figures = plot_all(results, folder)
    print(f"\n{table(results)}")
    print(*figures, folder / TABLE_FILE, sep="\n")


if __name__ == "__main__":
    main()
