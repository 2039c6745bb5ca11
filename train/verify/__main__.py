"""Is this GPT-2, and does the device compute what the CPU does?"""

import os
import sys
from itertools import chain

from data.flags import Parser, add_flags, filled, path
from data.settings import Settings


def open_parser() -> Parser:
    parser = Parser(
        prog="python -m train.verify",
        description="Is this GPT-2? Compares the weights, what they write and ten training steps with published "
        "values. Exit code 0: everything as published; 1: something differs; 2: wrong input. The published values are "
        "those of float32; bfloat16 may round too much to reach them. A --device that is not the CPU is compared with "
        "it first, which needs no weights from outside.",
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
        from train.verify.against_cpu import against_cpu
        from train.verify.published import GPT2_124M, batch_tokens, load_what_fits, read_shakespeare, verify

        expected = GPT2_124M
        if args.model in HUB and args.model != "gpt2":
            raise ValueError(f"nothing is known of {args.model} here; use --model gpt2 or a folder with its four files")
        machine = filled(Machine, vars(args))
        device, left_out = machine.device, None
        checks = [] if device.type == "cpu" else [against_cpu(device)]
        try:
            folder, text = model_folder(args.model), read_shakespeare(args.shakespeare)
        except ConnectionError as error:
            if not checks:
                raise
            left_out = error
        else:
            model, tokenizer = load_what_fits(folder, expected)
            batch = batch_tokens(text, tokenizer, expected.batch_size * expected.seq_len + 1)
            checks.append(verify(folder, model.to(device), tokenizer, batch, expected, machine.dtype))
        passed = []
        for check in chain(*checks):
            print(check, flush=True)
            passed.append(check.passed)
        failed, total = passed.count(False), len(passed)
        if left_out:
            print(f"the published checks are left out: {left_out}")
        if failed:
            print(f"{failed} of {total} checks FAILED: other weights, another text or a wrong {device}")
            sys.exit(1)
        if left_out:
            print(f"all {total} checks passed: {device} computes what the CPU does")
        else:
            print(f"all {total} checks passed: this is GPT-2, and {device} computes it as others do")


if __name__ == "__main__":
    main()
