"""Several learning rates, one after another, each from the same fresh weights; then the table and the figure.

python -m train.sweep --lrs 1e-4 1e-5 1e-6 --samples 800
python -m train.sweep demo
"""

import sys
from functools import partial
from itertools import product

from data.flags import positive_float, positive_int
from data.settings import LEVERS, Training
from train.__main__ import open_parser, settings_of

# The small model needs larger learning rates than GPT-2. Its text is short, so its windows are short too. In float32
# every CPU gives nearly the same numbers.
SMALL = (
    "--model lilliput --text voyage --batch-size 4 --seq-len 128 --holdout 0.5 --top-k 0 --eval-tokens 64 "
    "--dtype float32"
)
STUDIES = {
    "demo": f"{SMALL} --lrs 3e-3 3e-4 3e-5 --samples 100 --eval-sequences 96 --out runs/demo",
    "map": f"{SMALL} --lrs 1e-2 3e-3 1e-3 3e-4 1e-4 3e-5 1e-5 --samples 240 --eval-sequences 32 --no-save-model "
    "--out runs/map",
    "levers": f"{SMALL} --lrs 1e-5 3e-5 1e-4 3e-4 1e-3 3e-3 --samples 100 --eval-sequences 32 --no-save-model "
    "--out runs/levers",
}


def main() -> None:
    parser = open_parser(
        "train.sweep",
        "What does the learning rate do to a fine-tune? Trains at each one and compares. The same command again "
        "continues an interrupted sweep. Under torchrun, or started several times, the processes share the runs. "
        "Several values of --schedule, --warmup, --train, --leash or --clip: every combination is trained.",
        out="runs/MODEL-TEXT-SAMPLES",
        **{name: [getattr(Training, name)] for name in LEVERS},
    )
    parser.add_argument(
        "study",
        nargs="?",
        choices=STUDIES,
        help="preset for the small shipped model; your own flags override it (default: none): "
        + "; ".join(f"{name}: {flags}" for name, flags in STUDIES.items()),
    )
    parser.add_argument(
        "--lrs",
        type=positive_float,
        nargs="+",
        default=[1e-4, 1e-5, 1e-6],
        metavar="LR",
        help="learning rates, or peaks of a --schedule (default: 1e-4 1e-5 1e-6)",
    )
    parser.add_argument(
        "--seeds",
        type=partial(positive_int, most=1000),
        default=1,
        metavar="N",
        help="repeat every run with N seeds, from --seed up, each with another order of batches: how much of "
        "a difference is chance?",
    )
    args = parser.parse_args()
    if args.study:
        args = parser.parse_args([*STUDIES[args.study].split(), *sys.argv[1:]])
    for name in ("lrs", *LEVERS):
        if len(set(values := getattr(args, name))) < len(values):
            parser.error(f"--{name} names a value twice; give each once")
    combinations = [dict(zip(LEVERS, values)) for values in product(*(getattr(args, name) for name in LEVERS))]
    with parser.errors_in_one_line():
        from train.run.jobs import sweep  # only now, see data/flags.py

        settings = [settings_of(args, **levers) for levers in combinations]  # each is checked
        sweep(settings[0], combinations, args.lrs, args.seeds, args.out, args.overwrite)


if __name__ == "__main__":
    main()
