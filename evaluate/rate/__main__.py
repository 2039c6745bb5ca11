"""A blind comparison: which continuation is better, if nobody knows who wrote it?

python -m evaluate.rate runs/demo
python -m evaluate.rate runs/demo --results
"""

from data.flags import Parser, path, positive_int, whole_number
from data.settings import RATINGS_FILE


def new_parser() -> Parser:
    parser = Parser(
        prog="python -m evaluate.rate",
        description="Compare how the models and the book continue the same prompts, without knowing who wrote what. "
        f"Answers are kept in {RATINGS_FILE} in the first of RUNS. The same command continues where you stopped.",
    )
    add = parser.add_argument
    add("runs", nargs="+", type=path, metavar="RUNS", help="run folders or sweep folders")
    add("--pairs", type=positive_int, metavar="N", help="comparisons (default: enough for a verdict)")
    add("--rater", default="reader", metavar="NAME", help="name of the reader")
    add("--seed", type=whole_number, default=0, metavar="N", help="random seed; use the same for all raters")
    add("--results", action="store_true", help="show who wrote what, and who won")
    add("--ratings", nargs="+", type=path, metavar="FILE", help="show the results of these (downloaded) files")
    add("--page", type=path, metavar="FILE", help="write the comparison as a web page to send to others")
    return parser


def main() -> None:
    parser = new_parser()
    args = parser.parse_args()
    file = args.runs[0] / RATINGS_FILE
    with parser.errors_in_one_line():
        from data.files import write_text  # only now, see data/flags.py
        from evaluate.rate.contest import draw_comparisons, open_contest, pairs_for_a_verdict, read_ratings
        from evaluate.rate.preferences import as_markdown, preferences
        from evaluate.rate.session import comparison_page, rate
        from evaluate.results import describe, find_runs

        runs = find_runs(args.runs)
        contest = open_contest(runs)
        if args.results or args.ratings:
            found = preferences(runs, read_ratings(args.ratings or [file]))
            print(f"Blind comparison: {describe(runs)}.\n\n{as_markdown(found)}")
            return
        pairs = args.pairs or pairs_for_a_verdict(len(contest.texts))
        comparisons = draw_comparisons(contest.texts, len(contest.prompts), pairs, args.seed)
        if len(comparisons) < pairs:
            print(f"note: these texts allow {len(comparisons)} comparisons, not {pairs}")
        if args.page:
            write_text(args.page, comparison_page(contest, comparisons))
            print(args.page)
        else:
            rate(contest, comparisons, args.rater, file)


if __name__ == "__main__":
    main()
