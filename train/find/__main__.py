"""Find a learning rate, a number of steps and the model for a text.

python -m train.find --text my.txt
"""

from pathlib import Path

from data.flags import Parser, add_flags, filled, path, positive_float
from data.settings import TRIAL_TEXTS, Sampling, Settings, Training

FLAGS = ("samples", "batch_size", "seq_len", "holdout", "micro_batch", "patience")


def main() -> None:
    parser = Parser(
        prog="python -m train.find",
        description="Find the learning rate and the number of steps for a text, and save the best model. "
        "The same command again continues an interrupted search.",
    )
    parser.add_argument(
        "--out", type=path, metavar="FOLDER", default=Path("runs/mine"), help="folder for the runs and for best/"
    )
    parser.add_argument("--overwrite", action="store_true", help="delete what an earlier search left in that folder")
    parser.add_argument(
        "--minutes", type=positive_float, metavar="M", help="about how long it may take (default: as --samples says)"
    )
    add_flags(parser, Settings, "model, text and machine", ("model", "text", "raw_text", "device", "dtype"))
    add_flags(
        parser,
        Training,
        "training; --samples is the most steps of one run",
        FLAGS,
        batch_size=4,
        patience=3,
        holdout=None,
    )
    add_flags(parser, Sampling, "random numbers", ("seed",))
    args = parser.parse_args()
    with parser.errors_in_one_line():
        from train.find.search import find  # only now, see data/flags.py

        settings = filled(Settings, vars(args) | {"sequences": TRIAL_TEXTS, "keep_state": True})
        find(settings, args.out, args.overwrite, args.minutes)


if __name__ == "__main__":
    main()
