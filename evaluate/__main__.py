"""The ratio of finished models.

python -m evaluate runs/gpt2-gulliver-800/lr-1e-4 gpt2
"""

from pathlib import Path

from evaluate.flags import Parser, add_machine_flags, add_sampling_flags, add_text_flags, filled
from evaluate.measures.reference import write
from evaluate.ratio import Sampling
from evaluate.results import RESULT_FILE, read_result
from evaluate.setup import open_setup
from model.device import Machine
from model.pretrained import load_pretrained


def text_of(folder: str, text: str | None, raw_text: bool) -> tuple[str, bool]:
    """(text, raw) to measure the model in `folder` by: what was asked for, else what the run itself was trained on."""
    if text is None and (Path(folder) / RESULT_FILE).is_file():
        settings = read_result(Path(folder))["settings"]
        return settings["text"], settings["raw_text"] or raw_text
    return text or "gulliver", raw_text


def main() -> None:
    parser = Parser(
        prog="python -m evaluate",
        description="Let models write from random tokens and measure the share of the text's 100 most frequent tokens.",
    )
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="a model folder, a run folder, or gpt2 and its sizes"
    )
    add_text_flags(parser, default=None)
    add_sampling_flags(parser)
    add_machine_flags(parser)
    args = parser.parse_args()
    try:
        sampling, machine = filled(Sampling, vars(args)), filled(Machine, vars(args))
        opened = []  # all of them before the first is measured: a wrong name shall not cost the time of the others
        for folder in args.folders:
            text, raw = text_of(folder, args.text, args.raw_text)
            opened.append((folder, open_setup(folder, text, raw_text=raw)))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    rows = ["| model | text | ratio (95 %) | the book's own |", "|---|---|---|---|"]
    for folder, setup in opened:
        try:
            model = load_pretrained(setup.folder).to(machine.device)
        except (ValueError, OSError) as error:
            parser.error(str(error))
        measured = write(setup, model, sampling, machine, folder).ratio
        low, high = measured.ratio_ci
        name = setup.book.name + (" (as served)" if setup.book.raw else "")
        rows.append(f"| {folder} | {name} | {measured.ratio:.3f} ({low:.3f} to {high:.3f}) | {setup.book_ratio:.3f} |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
