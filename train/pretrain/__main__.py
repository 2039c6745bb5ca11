"""A vocabulary and a small GPT-2 from nothing but a corpus."""

import argparse
from pathlib import Path

from evaluate.flags import Parser, filled, positive_float, positive_int
from train.lasting.interruption import ending_in_one_line


def corpus_path(text: str) -> Path:
    if not text:  # a Path of "" is the present folder
        raise argparse.ArgumentTypeError("no corpus is named; give one, as in: make lilliput CORPUS=books.jsonl.xz")
    return Path(text)


def open_parser() -> Parser:
    parser = Parser(
        prog="python -m train.pretrain",
        description="Train a byte-level BPE vocabulary and a small GPT-2 on a corpus. The same command again goes on "
        "where it stopped.",
    )
    parser.add_argument("--corpus", type=corpus_path, required=True, help="folder of .txt files, or a .jsonl(.xz) file")
    parser.add_argument("--out", type=Path, default=Path("runs/lilliput"), help="the model folder to write")
    parser.add_argument("--vocab-size", type=positive_int, default=4096, help="tokens, the 256 bytes included")
    parser.add_argument("--n-layer", type=positive_int, default=4, help="blocks")
    parser.add_argument("--n-head", type=positive_int, default=4, help="heads")
    parser.add_argument("--n-embd", type=positive_int, default=256, help="width")
    parser.add_argument("--block-size", type=positive_int, default=256, help="context, in tokens")
    parser.add_argument("--batch-size", type=positive_int, default=16, help="windows of a context each")
    parser.add_argument("--steps", type=positive_int, default=10000, help="optimizer steps")
    parser.add_argument("--lr", type=positive_float, default=2e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=positive_int, default=200, help="steps until the peak")
    parser.add_argument("--weight-decay", type=float, default=0.1, help="on matrices only")
    parser.add_argument("--clip", type=positive_float, default=1.0, help="longest gradient")
    parser.add_argument("--held-out", type=positive_int, default=12, help="whole texts to hold out")
    parser.add_argument(
        "--evaluate-every", type=positive_int, default=500, help="steps between held-out losses and states"
    )
    parser.add_argument("--evaluate-tokens", type=positive_int, default=100_000, help="held-out tokens read on the way")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the held-out texts and the batches")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 in the matrix products")
    parser.add_argument("--device", default="auto", help="auto (cuda if there, else cpu), cpu, cuda or mps")
    return parser


def main() -> None:
    parser = open_parser()
    args = parser.parse_args()
    work = args.out / "work"  # tokens and state: needed to go on, not part of the model
    with parser.errors_in_one_line(), ending_in_one_line():  # the next start goes on from the last state
        from model.device import device_of  # only now, see evaluate/flags.py
        from train.pretrain.corpus import prepare_corpus
        from train.pretrain.pretraining import Recipe, check_corpus, check_state, make_model

        device = device_of(args.device)
        recipe = filled(Recipe, vars(args))
        check_state(work, recipe)
        corpus = prepare_corpus(args.corpus, work, recipe.vocab_size, recipe.held_out, recipe.seed)
        check_corpus(corpus, recipe)
        make_model(
            args.out,
            work,
            corpus,
            recipe,
            device,
            evaluate_every=args.evaluate_every,
            evaluate_tokens=args.evaluate_tokens,
        )


if __name__ == "__main__":
    main()
