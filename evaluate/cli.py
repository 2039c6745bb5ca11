"""The door of every command: a parser that answers in one line, and the checks on values typed by people."""

import argparse
import math
import sys
from typing import NoReturn

import torch


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


def device_of(name: str) -> torch.device:
    """The device of a `--device` value.

    Raises:
        ValueError: this machine does not have it.
    """
    if name == "auto":
        # Never mps by itself: Apple's GPU has been seen to give wrong GPT-2 results without a word.
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):  # torch built without CUDA answers with an AssertionError
        raise ValueError(f"device {name!r} is not available here; use --device cpu or auto") from None
    return device
