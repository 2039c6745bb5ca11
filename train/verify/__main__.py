"""Is this GPT-2? Compares it with published numbers."""

import os
import sys

from data.flags import Parser, add_flags, filled, path
from data.settings import Settings


def open_parser() -> Parser:
    parser = Parser(
        prog="python -m train.verify",
        description="Is this GPT-2? Compares the weights, what they write and ten training steps with published "
        "values. Exit code 0: everything as published; 1: something differs; 2: wrong input. The published values are "
        "those of float32; bfloat16 may round too much to reach them.",
    )
    parser.add_argument(
        "--model",
        type=os.path.expanduser,
        default="gpt2",
        help="gpt2 (downloaded once and cached) or a folder with its config.json, model.safetensors, vocab.json and "
        "merges.txt",
    )
    parser.add_argument(
        "--shakespeare",
        type=path,
        metavar="FILE",
        help="Tiny Shakespeare's input.txt, for the training steps (default: downloaded once and cached)",
    )
    add_flags(parser, Settings, "machine", ("device", "dtype"), dtype="float32")
    return parser


def main() -> None:
    parser = open_parser()
    args = parser.parse_args()
    with parser.errors_in_one_line():
        from model.device import Machine  # only now, see data/flags.py
        from model.hub import HUB, model_folder
        from train.verify.published import GPT2_124M, batch_tokens, load_what_fits, read_shakespeare, verify

        expected = GPT2_124M
        if args.model in HUB and args.model != "gpt2":
            raise ValueError(f"nothing is known of {args.model} here; use --model gpt2 or a folder with its four files")
        machine = filled(Machine, vars(args))
        folder = model_folder(args.model)
        text = read_shakespeare(args.shakespeare)
        model, tokenizer = load_what_fits(folder, expected)
        batch = batch_tokens(text, tokenizer, expected.batch_size * expected.seq_len + 1)
        passed = []
        for check in verify(folder, model.to(machine.device), tokenizer, batch, expected, machine.dtype):
            print(check, flush=True)
            passed.append(check.passed)
        failed, total, device = passed.count(False), len(passed), machine.device
        if failed:
            print(f"{failed} of {total} checks FAILED: other weights, another text or a wrong {device}")
            sys.exit(1)
        print(f"all {total} checks passed: this is GPT-2, and {device} computes it as others do")


if __name__ == "__main__":
    main()
