"""The door of every command: a parser that answers in one line, and the checks on values typed by people."""

import argparse
import math
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage around it, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)


def positive_int(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value


def positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number above 0, such as 1e-4")
    return value


def whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to below 1")
    return value


def temperature(text: str) -> float:
    return 0.0 if text in ("0", "0.0") else positive_float(text)


def add_text_flags(parser: argparse.ArgumentParser, default: str | None = "gulliver") -> None:
    group = parser.add_argument_group("text")
    group.add_argument(
        "--text",
        default=default,
        metavar="TEXT",
        help="gulliver (fetched once and cached), voyage (shipped) or the path of a UTF-8 file"
        + (" (default: %(default)s)" if default else " (default: the run's own text, else gulliver)"),
    )
    group.add_argument(
        "--raw-text",
        action="store_true",
        help="keep the file as served: Project Gutenberg's frame and CRLF line ends (default: cut the frame, use LF)",
    )


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("evaluation")
    group.add_argument(
        "--eval-sequences",
        type=positive_int,
        default=256,
        metavar="N",
        help="texts to write, each from a random token; the exercise writes 10 (default: %(default)s)",
    )
    group.add_argument(
        "--eval-tokens",
        type=positive_int,
        default=100,
        metavar="N",
        help="new tokens in each text (default: %(default)s)",
    )
    group.add_argument(
        "--top-k",
        type=whole_number,
        default=50,
        metavar="K",
        help="sample among the K most likely tokens; 0: among all (default: %(default)s)",
    )
    group.add_argument(
        "--temperature",
        type=temperature,
        default=1.0,
        metavar="T",
        help="divides the logits; 0: always the most likely token (default: %(default)s)",
    )


def add_machine_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--seed",
        type=whole_number,
        default=0,
        metavar="N",
        help="of batches, start tokens, sampling and dropout (default: %(default)s)",
    )
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the matrix products; weights and moments are always float32; auto: bfloat16 where the hardware has it "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--device",
        default="auto",
        help="auto (cuda if there, else cpu), cpu, cuda, cuda:N, or mps, which is known to give wrong GPT-2 results "
        "silently (default: %(default)s)",
    )


def sampling_of(args: argparse.Namespace) -> dict:
    """The sampling flags as keyword arguments of `frequent_token_ratio`."""
    return {
        "sequences": args.eval_sequences,
        "new_tokens": args.eval_tokens,
        "temperature": args.temperature,
        "top_k": args.top_k or None,
        "seed": args.seed,
    }
