"""The ratio of finished models.

python -m evaluate runs/gpt2-gulliver-800/lr-1e-4 gpt2
"""

from evaluate.flags import Parser, add_machine_flags, add_sampling_flags, add_text_flags, filled
from evaluate.settings import Sampling

# How a model is measured if nobody says otherwise; the names are those of the flags' values.
TERMS = {"text": "gulliver", "raw_text": False, **vars(Sampling())}


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
        from evaluate.measures.finished import table_of  # only now, see evaluate/flags.py
        from model.device import Machine

        print(table_of(args.folders, TERMS, asked, filled(Machine, vars(args))))


if __name__ == "__main__":
    main()
