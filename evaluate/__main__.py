"""The ratio of finished models, in a table.

python -m evaluate runs/gpt2-gulliver-800/lr-1e-4 gpt2
"""

from pathlib import Path

from data.flags import Parser, add_flags, filled
from data.settings import Sampling, Settings

# What decides the ratio: names of flags' values, and the keys under which a run's result.json keeps them.
KEYS = {
    "text": "text",
    "raw_text": "raw_text",
    "sequences": "eval_sequences",
    "new_tokens": "eval_tokens",
    "temperature": "temperature",
    "top_k": "top_k",
    "seed": "seed",
}


def main() -> None:
    parser = Parser(
        prog="python -m evaluate",
        description="Let models write from random tokens and measure the share of the text's 100 most frequent tokens. "
        "A run folder is measured as the run measured itself, except for the flags that are given; any other model is "
        "measured by the flags.",
    )
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="a model folder, a run folder, gpt2 and its sizes, or owner/name"
    )
    add_flags(parser, Settings, "text and machine", ("text", "raw_text", "device", "dtype"))
    add_flags(parser, Sampling, "sampling")
    parser.set_defaults(**dict.fromkeys(KEYS))  # None: not given
    args = parser.parse_args()
    given = {name: value for name, value in vars(args).items() if name in KEYS and value is not None}
    with parser.errors_in_one_line():
        from evaluate.measures.reference import write  # only now, see data/flags.py
        from evaluate.results import RESULT_FILE, read_result
        from evaluate.setup import open_setup
        from model.device import Machine
        from model.pretrained import load_pretrained

        machine, opened = filled(Machine, vars(args)), []
        for folder in args.folders:  # open all before the first is measured: a wrong name should not cost that time
            run = read_result(Path(folder))["settings"] if (Path(folder) / RESULT_FILE).is_file() else None
            own = {name: run[key] for name, key in KEYS.items()} if run else {}
            if "text" in given:
                own["raw_text"] = False  # of another text
            settings = filled(Settings, own | given)
            setup = open_setup(folder, settings.text, raw_text=settings.raw_text)
            if run and "text" not in given and (was := run["text_sha256"]) != (now := setup.book.sha256):
                raise ValueError(
                    f"the text {settings.text} is not the one that {folder} was trained on (sha256 {now[:8]}, was "
                    f"{was[:8]}); name the text to measure it by with --text"
                )
            opened.append((folder, setup, settings.sampling))
        print("| model | text | written | ratio (95 %) | expected, without top-k at temperature 1 | the book itself |")
        print("|---|---|---|---|---|---|")
        for folder, setup, sampling in opened:
            written = write(setup, load_pretrained(setup.folder).to(machine.device), sampling, machine, folder)
            low, high = written.ratio.ratio_ci
            cells = [
                folder,
                setup.book.name + (" (as served)" if setup.book.raw else ""),
                f"{sampling.sequences} x {sampling.new_tokens} tokens, temperature {sampling.temperature:g}, "
                f"top-k {sampling.top_k or 'off'}, seed {sampling.seed}, {machine.dtype_name}",
                f"{written.ratio.ratio:.3f} ({low:.3f} to {high:.3f})",
                f"{written.untruncated.mean():.3f}",
                f"{setup.book_ratio:.3f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
