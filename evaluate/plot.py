"""The figures of finished runs: python -m evaluate.plot runs/gpt2-gulliver-800"""

from data.flags import Parser, path


def main() -> None:
    parser = Parser(prog="python -m evaluate.plot", description="Draw the figures of finished runs; needs no model.")
    parser.add_argument("runs", nargs="+", type=path, metavar="RUNS", help="run folders or sweep folders")
    parser.add_argument("--out", type=path, metavar="FOLDER", help="folder for figures (default: the first of RUNS)")
    args = parser.parse_args()
    with parser.errors_in_one_line():
        from evaluate.report.plots import plot_all  # only now, see data/flags.py
        from evaluate.results import find_runs

        runs, folder = find_runs(args.runs), args.out or args.runs[0]
        folder.mkdir(parents=True, exist_ok=True)
        print(*plot_all(runs, folder), sep="\n")


if __name__ == "__main__":
    main()
