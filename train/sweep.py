"""Several learning rates, one after another, each from the same fresh weights; then the table and the figure.

python -m train.sweep --lrs 1e-4 1e-5 1e-6 --samples 800
"""

from functools import partial

from evaluate.flags import Parser, positive_float, positive_int
from train.flags import add_out_flags, add_request_flags, request_of


def main() -> None:
    parser = Parser(
        prog="python -m train.sweep",
        description="What does the learning rate do to a fine-tune? Trains at each one and compares. The same command "
        "again goes on where it was interrupted. Under torchrun, or started several times, the processes share the "
        "runs out.",
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
        help="repeat every learning rate with N different orders of batches, from --seed on: how much of a difference "
        "is chance?",
    )
    add_out_flags(parser, "runs/MODEL-TEXT-SAMPLES")
    add_request_flags(parser)
    args = parser.parse_args()
    if len(set(args.lrs)) < len(args.lrs):
        parser.error("--lrs names a learning rate twice; give each once")
    with parser.errors_in_one_line():
        from train.lasting.jobs import sweep  # only now, see evaluate/flags.py

        sweep(request_of(args), args.lrs, args.seeds, args.out, args.overwrite)


if __name__ == "__main__":
    main()
