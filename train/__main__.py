"""One learning rate: before, train, after.

python -m train --lr 1e-4 --samples 50
"""

import argparse

from data.flags import Parser, add_flags, filled, path, positive_float
from data.settings import TRIAL, TRIAL_TEXTS, Sampling, Settings


def open_parser(command: str, description: str, out: str, **defaults) -> Parser:
    """The flags that `python -m train` and `python -m train.sweep` share.

    Args:
        out: the default of `--out`, in words.
        defaults: of settings; see `add_flags`.
    """
    parser = Parser(prog=f"python -m {command}", description=description)
    parser.add_argument(
        "--out",
        type=path,
        metavar="FOLDER",
        help=f"folder for the results, new or of the same run; an interrupted run continues (default: {out})",
    )
    parser.add_argument("--overwrite", action="store_true", help="delete what an earlier run left in that folder")
    add_flags(parser, Settings, "model, text and machine", **defaults)
    parser.set_defaults(sequences=None)  # it depends on --samples
    return parser


def settings_of(args: argparse.Namespace, **changes) -> Settings:
    if args.sequences is None:
        args.sequences = TRIAL_TEXTS if args.samples < TRIAL else Sampling.sequences
    return filled(Settings, vars(args) | changes)


def main() -> None:
    parser = open_parser(
        "train",
        "Fine-tune GPT-2 at one learning rate: before, train, after. The same command again continues an interrupted "
        "run. Under torchrun all processes train one model, each with its part of every batch.",
        out="runs/MODEL-TEXT-SAMPLES/lr-LR",
    )
    parser.add_argument("--lr", type=positive_float, default=1e-4, help="learning rate, or the peak of a --schedule")
    args = parser.parse_args()
    with parser.errors_in_one_line():
        from train.run.jobs import train_one  # only now, see data/flags.py

        train_one(settings_of(args), args.lr, args.out, args.overwrite)


if __name__ == "__main__":
    main()
