"""Is this GPT-2? Published numbers, and the device against the CPU."""

import sys
from pathlib import Path

from evaluate.flags import Parser


def open_parser() -> Parser:
    parser = Parser(
        prog="python -m train.verify",
        description="Is this GPT-2? Checks the weights, what they write and ten training steps against published "
        "values. Exit code 0: all as published; 1: something else was found; 2: wrong input.",
    )
    parser.add_argument(
        "--model",
        default="gpt2",
        help="gpt2 (fetched once and cached) or a folder with its config.json, model.safetensors, vocab.json and "
        "merges.txt",
    )
    parser.add_argument(
        "--shakespeare",
        type=Path,
        metavar="FILE",
        help="Tiny Shakespeare's input.txt, for the training steps (default: fetched once and cached)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto (cuda if there, else cpu), cpu, cuda, cuda:N or mps",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the matrix products; the published values are float32's, and bfloat16 rounds too much to be sure to "
        "reach them",
    )
    return parser


def main() -> None:
    parser = open_parser()
    args = parser.parse_args()
    with parser.errors_in_one_line():
        import torch  # only now, see evaluate/flags.py

        from model.device import device_of
        from model.hub import HUB, model_folder
        from train.verify.published import batch_tokens, load_what_fits, official, read_shakespeare, verify

        expected = official()
        if args.model in HUB and args.model != "gpt2":
            raise ValueError(f"nothing is known of {args.model} here; use --model gpt2 or a folder with its four files")
        device = device_of(args.device)
        folder = model_folder(args.model)
        text = read_shakespeare(args.shakespeare)
        model, tokenizer = load_what_fits(folder, expected)
        batch = batch_tokens(text, tokenizer, expected.batch_size * expected.seq_len + 1)
        model.to(device)
        passed = []
        for check in verify(folder, model, tokenizer, batch, expected, getattr(torch, args.dtype)):
            print(check, flush=True)
            passed.append(check.passed)
        if not all(passed):
            print(
                f"{passed.count(False)} of {len(passed)} checks FAILED: other weights, another text or a wrong {device}"
            )
            sys.exit(1)
        print(f"all {len(passed)} checks passed: this is GPT-2, and {device} computes it as others do")


if __name__ == "__main__":
    main()
