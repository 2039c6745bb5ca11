"""One learning rate: before, train, after.

python -m train --lr 1e-4 --samples 50
"""

from evaluate.flags import Parser, positive_float
from train.flags import add_out_flags, add_request_flags, request_of


def main() -> None:
    parser = Parser(
        prog="python -m train",
        description="Fine-tune GPT-2 at one learning rate: before, train, after. The same command again goes on where "
        "it was interrupted. Under torchrun all processes train one model, each with its part of every batch.",
    )
    parser.add_argument("--lr", type=positive_float, default=1e-4, help="learning rate, constant")
    add_out_flags(parser, "runs/MODEL-TEXT-SAMPLES/lr-LR")
    add_request_flags(parser)
    args = parser.parse_args()
    with parser.errors_in_one_line():
        from train.lasting.jobs import train_one  # only now, see evaluate/flags.py

        train_one(request_of(args), args.lr, args.out, args.overwrite)


if __name__ == "__main__":
    main()
