"""Several learning rates, one after another, each from the same fresh weights; then the table and the figure.

python -m train.sweep --lrs 1e-4 1e-5 1e-6 --samples 800
"""

from evaluate.cli import Parser, positive_float
from evaluate.plot import plot_all
from evaluate.results import find_results, lr_label
from evaluate.table import TABLE_FILE, table
from train.cli import add_out_flags, add_training_flags
from train.run import default_folder, evaluate_model, fresh_model, new_folder, notes_on, open_run, run


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
    try:
        if len(set(map(lr_label, args.lrs))) < len(args.lrs):
            raise ValueError("--lrs names a learning rate twice; give each once")
        setup, device = open_run(args)
        model = fresh_model(setup, args, device)
        folder = new_folder(args.out or default_folder(setup, args), args.overwrite)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for note in notes_on(setup):
        print(f"note: {note}")
    # Once is enough: the same weights, start tokens and luck for every learning rate.
    before = evaluate_model(setup, model, args, device, "writing before")
    del model
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
