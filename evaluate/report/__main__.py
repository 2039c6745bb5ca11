"""python -m evaluate.report runs/gpt2-gulliver-800"""

from data.flags import Parser, path
from data.settings import REPORT_FILE


def main() -> None:
    parser = Parser(
        prog="python -m evaluate.report",
        description="Write a page about finished runs, one file with verdicts, figures and texts; needs no model.",
    )
    parser.add_argument("runs", nargs="+", type=path, metavar="RUNS", help="run folders or sweep folders")
    parser.add_argument(
        "--out", type=path, metavar="FILE", help=f"the page (default: {REPORT_FILE} in the first of RUNS)"
    )
    args = parser.parse_args()
    with parser.errors_in_one_line():
        from evaluate.report.page import write_report  # only now, see data/flags.py

        print(write_report(args.runs, args.out or args.runs[0] / REPORT_FILE))


if __name__ == "__main__":
    main()
