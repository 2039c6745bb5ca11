"""The ratio of finished models.

python -m evaluate runs/gpt2-gulliver-800/lr-1e-4 gpt2
"""

from pathlib import Path

from evaluate.flags import Parser, add_machine_flags, add_sampling_flags, add_text_flags, filled
from evaluate.measures.reference import write
from evaluate.ratio import Sampling
from evaluate.results import RESULT_FILE, read_result
from evaluate.setup import Setup, open_setup
from model.device import Machine
from model.pretrained import load_pretrained

# How a model is measured if nobody says otherwise; the names are those of the flags' values.
TERMS = {"text": "gulliver", "raw_text": False, **vars(Sampling())}


def terms_of(folder: str) -> dict:
    """How the run in `folder` itself was measured, by the names of `TERMS`; nothing where it is no run folder."""
    if not (Path(folder) / RESULT_FILE).is_file():
        return {}
    settings = read_result(Path(folder))["settings"]
    named = {"sequences": settings["eval_sequences"], "new_tokens": settings["eval_tokens"]}
    return {name: named.get(name, settings.get(name)) for name in TERMS}


def changed_text(folder: str, setup: Setup) -> str:
    """What is to be said where the text of the run in `folder` is not there any more as it was; "" where all is well."""
    if not (Path(folder) / RESULT_FILE).is_file():
        return ""
    was, now = read_result(Path(folder))["settings"]["text_sha256"], setup.book.sha256
    if was == now:
        return ""
    return (
        f"the text {setup.asked['text']} is not the one that {folder} was trained on (sha256 {now[:8]}, was {was[:8]}); "
        "name the text to measure it by with --text"
    )


def row(name: str, setup: Setup, sampling: Sampling, machine: Machine) -> str:
    """Let the model of `setup` write, and say what came out and how it was measured."""
    written = write(setup, load_pretrained(setup.folder).to(machine.device), sampling, machine, name)
    low, high = written.ratio.ratio_ci
    cells = [
        name,
        setup.book.name + (" (as served)" if setup.book.raw else ""),
        f"{sampling.sequences} x {sampling.new_tokens} tokens, temperature {sampling.temperature:g}, "
        f"top-k {sampling.top_k or 'off'}, seed {sampling.seed}, {machine.dtype_name}",
        f"{written.ratio.ratio:.3f} ({low:.3f} to {high:.3f})",
        f"{written.untruncated.mean():.3f}",
        f"{setup.book_ratio:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = Parser(
        prog="python -m evaluate",
        description="Let models write from random tokens and measure the share of the text's 100 most frequent tokens. "
        "A run is measured as it measured itself, and a model beside it as the first run is; flags change it for all. "
        f"Where no run is named: {TERMS['sequences']} texts of {TERMS['new_tokens']} tokens, temperature "
        f"{TERMS['temperature']:g}, top-k {TERMS['top_k']}, seed {TERMS['seed']}, by the text {TERMS['text']}.",
    )
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="a model folder, a run folder, gpt2 and its sizes, or owner/name"
    )
    add_text_flags(parser, default=None)
    add_sampling_flags(parser)
    add_machine_flags(parser)
    parser.set_defaults(**dict.fromkeys(TERMS))  # so that what was asked for is told from what was not
    args = parser.parse_args()
    asked = {name: value for name, value in vars(args).items() if name in TERMS and value is not None}
    if "text" in asked:
        asked.setdefault("raw_text", False)
    with parser.errors_in_one_line():
        machine = filled(Machine, vars(args))
        own = [terms_of(folder) for folder in args.folders]
        of_the_first = next(filter(None, own), {})
        opened = []  # all of them before the first is measured: a wrong name shall not cost the time of the others
        for folder, terms in zip(args.folders, own):
            terms = TERMS | (terms or of_the_first) | asked
            setup = open_setup(folder, terms["text"], raw_text=terms["raw_text"])
            if "text" not in asked and (changed := changed_text(folder, setup)):
                raise ValueError(changed)
            opened.append((folder, setup, filled(Sampling, terms)))
        titles = ["model", "text", "written", "ratio (95 %)", "expected, without top-k at temperature 1"]
        rows = [f"| {' | '.join([*titles, 'the book itself'])} |", "|---|---|---|---|---|---|"]
        rows += [row(folder, setup, sampling, machine) for folder, setup, sampling in opened]
        print("\n".join(rows))


if __name__ == "__main__":
    main()
