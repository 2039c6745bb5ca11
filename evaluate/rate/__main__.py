"""A blind comparison: which continuation is better, if nobody knows who wrote it?

python -m evaluate.rate runs/demo
python -m evaluate.rate runs/demo --results
"""

import getpass
from pathlib import Path

from evaluate.flags import Parser, positive_int, whole_number
from evaluate.settings import RATINGS_FILE


def login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # nobody is logged in, as in a container
        return "reader"


def new_parser() -> Parser:
    parser = Parser(
        prog="python -m evaluate.rate",
        description="Compare what the models and the book say after the same prompts without knowing who wrote what. "
        f"Answers are kept in {RATINGS_FILE} in the first of RUNS; the same command goes on where you left.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run folders or sweep folders")
    parser.add_argument(
        "--pairs",
        type=positive_int,
        metavar="N",
        help="comparisons, about one in six a repeat (default: as many as a verdict needs, 36 for three learning rates)",
    )
    parser.add_argument("--rater", default=login_name(), metavar="NAME", help="who answers (default: your login name)")
    parser.add_argument(
        "--seed",
        type=whole_number,
        default=0,
        metavar="N",
        help="of the order, the sides and the repeats; raters with the same seed compare the same texts",
    )
    parser.add_argument("--results", action="store_true", help="say who wrote what, and who won")
    parser.add_argument(
        "--ratings",
        nargs="+",
        metavar="FILE",
        help=f"with --results: the ratings, downloaded ones too (default: {RATINGS_FILE} in the first of RUNS)",
    )
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the comparison as a web page to send round")
    return parser


def main() -> None:
    parser = new_parser()
    args = parser.parse_args()
    file = Path(args.runs[0]) / RATINGS_FILE
    with parser.errors_in_one_line():
        if args.ratings and not args.results:
            raise ValueError("--ratings goes with --results; add it")
        from evaluate.rate.contest import draw_comparisons, open_contest, pairs_for_a_verdict, shortage_of
        from evaluate.rate.outcome import tell_results  # only now, see evaluate/flags.py
        from evaluate.rate.page import page
        from evaluate.rate.session import rate
        from evaluate.results import find_results

        results = find_results(args.runs)
        contest = open_contest(results)
        if args.results:
            tell_results(results, contest, args.ratings or [file])
            return
        needed = pairs_for_a_verdict(len(contest.texts))
        pairs = args.pairs or needed
        comparisons = draw_comparisons(contest.texts, len(contest.prompts), pairs, args.seed)
        if len(comparisons) < pairs:
            print(f"note: these texts allow {len(comparisons)} comparisons, not {pairs}")
        shortage = shortage_of(len(comparisons), needed)
        if args.page:
            args.page.write_text(page(contest, comparisons, args.seed, pairs, shortage), encoding="utf-8")
            print(args.page)
        else:
            rate(contest, comparisons, args.rater, file, shortage)


if __name__ == "__main__":
    main()
