"""One learning rate: before, train, after.

python -m train --lr 1e-4 --samples 50
"""

from evaluate.cli import Parser, positive_float
from evaluate.results import lr_label
from evaluate.table import table
from train.cli import add_out_flags, add_training_flags
from train.run import begin, run


def main() -> None:
    parser = Parser(prog="python -m train", description="Fine-tune GPT-2 at one learning rate: before, train, after.")
    parser.add_argument(
        "--lr", type=positive_float, default=1e-4, help="learning rate, constant (default: %(default)s)"
    )
    add_out_flags(parser, "runs/MODEL-TEXT-SAMPLES/lr-LR")
    add_training_flags(parser)
    args = parser.parse_args()
    start = begin(parser, args, below=f"lr-{lr_label(args.lr)}")
    result = run(start, args, args.lr, args.seed, start.folder)
    print(table([result]))
    print(f"result and model are in {start.folder}")


if __name__ == "__main__":
    main()
