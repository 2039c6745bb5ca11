"""A vocabulary and a small GPT-2 from a corpus."""

import argparse
from pathlib import Path

from data.flags import Parser, add_flags, filled, path, positive_int
from data.settings import Recipe, Settings
from train.run.signals import ending_in_one_line


def corpus_path(text: str) -> Path:
    if not text:  # Path("") is the current folder
        raise argparse.ArgumentTypeError("no corpus is named; give one: --corpus books.jsonl.xz")
    return path(text)


def open_parser() -> Parser:
    parser = Parser(
        prog="python -m train.pretrain",
        description="Train a byte-level BPE vocabulary and a small GPT-2 on a corpus. The same command again "
        "continues an interrupted pretraining.",
    )
    parser.add_argument("--corpus", type=corpus_path, required=True, help="folder of .txt files, or a .jsonl(.xz) file")
    parser.add_argument("--out", type=path, default=Path("runs/lilliput"), help="the model folder to write")
    parser.add_argument(
        "--evaluate-every", type=positive_int, default=500, help="steps between two held-out losses and saved states"
    )
    parser.add_argument("--evaluate-tokens", type=positive_int, default=100_000, help="held-out tokens measured then")
    add_flags(parser, Recipe, "recipe")
    add_flags(parser, Settings, "machine", ("device",))
    return parser


def main() -> None:
    parser = open_parser()
    args = parser.parse_args()
    work = args.out / "work"  # tokens and state: an interrupted training needs them, the model does not
    with parser.errors_in_one_line(), ending_in_one_line():
        from data.files import tidy  # only now, see data/flags.py
        from model.device import Machine
        from model.hub import MODEL_FILES
        from train.pretrain.corpus import prepare_corpus, read_corpus
        from train.pretrain.pretraining import check_corpus, check_state, make_model
        from train.run.checkpoint import CHECKPOINT_FILE
        from train.run.folder import check_folder, in_use
        from train.run.lock import locked

        device = Machine(args.device).device
        recipe = filled(Recipe, vars(args))
        next(read_corpus(args.corpus))  # a wrong path is refused before anything is made
        if not work.is_dir():
            check_folder(args.out, MODEL_FILES)
        with locked(work) as ours:
            if not ours:
                raise ValueError(in_use(work))
            tidy(work, [CHECKPOINT_FILE])
            check_state(work, recipe)
            corpus = prepare_corpus(args.corpus, work, recipe.vocab_size, recipe.held_out, recipe.seed)
            check_corpus(corpus, recipe)
            make_model(args.out, work, corpus, recipe, device, args.evaluate_every, args.evaluate_tokens)


if __name__ == "__main__":
    main()
