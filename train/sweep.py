"""Several learning rates, one after another, each from the same fresh weights; then the table and the figure.

python -m train.sweep --lrs 1e-4 1e-5 1e-6 --samples 800
"""

from functools import partial

from data.flags import positive_float, positive_int
from train.__main__ import open_parser, settings_of


def main() -> None:
    parser = open_parser(
        "train.sweep",
        "What does the learning rate do to a fine-tune? Trains at each one and compares. The same command again "
        "continues an interrupted sweep. Under torchrun, or started several times, the processes share the runs.",
        out="runs/MODEL-TEXT-SAMPLES",
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
        type=partial(positive_int, most=1000),
        default=1,
        metavar="N",
        help="repeat every learning rate with N seeds, from --seed up, each with another order of batches: how much of "
        "a difference is chance?",
    )
    args = parser.parse_args()
    if len(set(args.lrs)) < len(args.lrs):
        parser.error("--lrs names a learning rate twice; give each once")
    with parser.errors_in_one_line():
        from train.run.jobs import sweep  # only now, see data/flags.py

        sweep(settings_of(args), args.lrs, args.seeds, args.out, args.overwrite)


if __name__ == "__main__":
    main()
