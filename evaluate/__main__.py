"""The ratio of finished models, in a table.

python -m evaluate runs/gpt2-gulliver-800/lr-1e-4 gpt2
"""

import dataclasses
from pathlib import Path

from data.flags import Parser, add_flags, filled
from data.settings import Sampling, Settings, Training

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
    machine = {"device": args.device, "dtype": args.dtype}
    with parser.errors_in_one_line():
        from evaluate.baseline import open_baseline  # only now, see data/flags.py
        from evaluate.results import RESULT_FILE, read_result

        opened = []
        for folder in args.folders:  # open all before the first is measured: a wrong name should not cost that time
            run = read_result(Path(folder))["settings"] if (Path(folder) / RESULT_FILE).is_file() else None
            own = {name: run[key] for name, key in KEYS.items()} if run else {}
            if "text" in given:
                own["raw_text"] = False  # of another text
            settings = filled(Settings, machine | {"model": folder} | own | given)
            # Nothing is trained, so nothing is held out, and no window has to fit.
            settings = dataclasses.replace(settings, training=Training(holdout=0.0, seq_len=1))
            baseline = open_baseline(settings)
            if run and "text" not in given and (was := run["text_sha256"]) != (now := baseline.book.sha256):
                raise ValueError(
                    f"the text {settings.text} is not the one that {folder} was trained on (sha256 {now[:8]}, was "
                    f"{was[:8]}); name the text to measure it by with --text"
                )
            opened.append(baseline)
        print("| model | text | written | ratio (95 %) | without top-k at temperature 1 | the book itself |")
        print("|---|---|---|---|---|---|")
        for baseline in opened:
            found, sampling, book = baseline.base_ratio, baseline.sampling, baseline.book
            cells = [
                baseline.settings.model,
                book.name + (" (as served)" if book.raw else ""),
                f"{sampling.sequences} x {sampling.new_tokens} tokens, temperature {sampling.temperature:g}, "
                f"top-k {sampling.top_k or 'off'}, seed {sampling.seed}, {baseline.machine.dtype_name}",
                f"{found.ratio:.3f} ({found.ratio_ci[0]:.3f} to {found.ratio_ci[1]:.3f})",
                f"{found.untruncated.mean():.3f}",
                f"{baseline.book_ratio:.3f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
