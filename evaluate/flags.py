"""The door of every command: a parser that answers in one line, checks on values typed by people, and flags that
several commands share. Flags take their defaults from the fields of the settings that they fill.

Nothing here and nothing that a command imports at its top is heavy: loading PyTorch takes seconds on a slow machine,
and who asks for `--help` or mistypes a flag shall not wait for it. A command imports its work when its flags are read.
"""

import argparse
import dataclasses
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import NoReturn, TypeVar

from evaluate.settings import Sampling

Settings = TypeVar("Settings")

LEAST_TEMPERATURE = 1e-6  # logits divided by much less are beyond what a float32 holds
MOST_TEXTS = 10_000  # the interval of so many takes 1.6 GB


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """argparse's own, which adds the default to each help; not where there is none, or where the help says it itself."""

    def _get_help_string(self, action: argparse.Action) -> str:
        said = "(default: " in action.help or action.default is None or action.default is False
        return action.help if said else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage around it, and exits with 2."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"formatter_class": Formatter} | kwargs)

    def error(self, message: str) -> NoReturn:
        with suppress(OSError, AttributeError):  # closed: nobody hears it, and the exit code still tells
            sys.stderr.write(f"error: {' '.join(message.split())}\n")
        sys.exit(2)

    @contextmanager
    def errors_in_one_line(self) -> Iterator[None]:
        """Around a command's work: what goes wrong there is told as `error` tells it, a lack of memory too."""
        open_streams()
        try:
            yield
            sys.stdout.flush()
        except BrokenPipeError:  # `| head` has seen enough; nothing shall be flushed to it at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            sys.exit(130)
        except (ValueError, OSError) as error:
            self.error(str(error))
        except (MemoryError, RuntimeError) as error:
            if (asked := memory_asked_for(error)) is None:
                raise
            flags = [flag for flag in TAKE_MEMORY if flag in self._option_string_actions]
            remedy = f"use a smaller {' or '.join(flags)}" if flags else "use a smaller model or a machine with more"
            self.error(f"out of memory{asked}; {remedy}")


def open_streams() -> None:
    """Let every print work: where a standard stream was closed (`>&-`), and on a terminal that has ASCII alone."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It also takes the free number, which the next file would get, with whatever libraries print there.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


TAKE_MEMORY = ("--micro-batch", "--batch-size", "--eval-sequences")
BYTES = {"bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "pib": 2**50, "eib": 2**60}


def memory_asked_for(error: Exception) -> str | None:
    """What an error that tells of too little memory says it asked for, to follow on "out of memory"; None: it is another.

    Python, numpy and torch, on CPU and GPU, have each a sentence of their own for it.
    """
    said = str(error)
    told = re.search("DefaultCPUAllocator|bad_alloc|out of memory|ALLOC_FAILED|Storage size .* overflowed", said)
    if not (told or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"):
        return None
    asked = re.search(r"allocate ([\d.]+) ?(bytes|[KMGTPE]iB)", said)
    return f": {float(asked[1]) * BYTES[asked[2].lower()] / 1e9:,.2f} GB more were asked for" if asked else ""


def filled(settings: type[Settings], values: dict) -> Settings:
    """A dataclass of settings with those of `values`, by name, that are its fields, or fields of its fields."""
    found = {
        field.name: filled(field.type, values) if dataclasses.is_dataclass(field.type) else values[field.name]
        for field in dataclasses.fields(settings)
    }
    return settings(**found)


def positive_int(text: str, most: int | None = None) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    if most is not None and value > most:
        raise argparse.ArgumentTypeError(f"{value} is too many; use {most} or fewer")
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
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def seed(text: str) -> int:
    if (number := whole_number(text)) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text} is too large for a seed; use one below 2 to the 63")
    return number


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to below 1")
    return value


def temperature(text: str) -> float:
    try:
        value = 0.0 if text in ("0", "0.0") else positive_float(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not 0, nor a finite number above it") from None
    if 0 < value < LEAST_TEMPERATURE:
        raise argparse.ArgumentTypeError(f"{text} is too near to 0; use 0, which always takes the most likely token")
    return value


def add_text_flags(parser: argparse.ArgumentParser, default: str | None = "gulliver") -> None:
    group = parser.add_argument_group("text")
    group.add_argument(
        "--text",
        default=default,
        metavar="TEXT",
        help="gulliver (fetched once and cached), voyage (shipped) or the path of a UTF-8 file"
        + ("" if default else " (default: the run's own text, else gulliver)"),
    )
    group.add_argument(
        "--raw-text",
        action="store_true",
        help="keep the file as served: Project Gutenberg's frame and CRLF line ends (default: cut the frame, use LF)",
    )


def add_sampling_flags(parser: argparse.ArgumentParser, default: str = "") -> None:
    """`default`: what `--eval-sequences` is where it is not given, in words; it is None then."""
    group = parser.add_argument_group("evaluation")
    group.add_argument(
        "--eval-sequences",
        dest="sequences",
        type=partial(positive_int, most=MOST_TEXTS),
        default=None if default else Sampling.sequences,
        metavar="N",
        help="texts to write, each from a random token; the exercise writes 10"
        + (f" (default: {default})" if default else ""),
    )
    group.add_argument(
        "--eval-tokens",
        dest="new_tokens",
        type=positive_int,
        default=Sampling.new_tokens,
        metavar="N",
        help="new tokens in each text",
    )
    group.add_argument(
        "--top-k",
        type=whole_number,
        default=Sampling.top_k,
        metavar="K",
        help="sample among the K most likely tokens; 0: among all",
    )
    group.add_argument(
        "--temperature",
        type=temperature,
        default=Sampling.temperature,
        metavar="T",
        help="divides the logits; 0: always the most likely token",
    )


def add_machine_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--seed",
        type=seed,
        default=Sampling.seed,
        metavar="N",
        help="of batches, start tokens, sampling and dropout",
    )
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the matrix products; weights and moments are always float32; auto: bfloat16 where the hardware has it",
    )
    group.add_argument(
        "--device",
        default="auto",
        help="auto (cuda if there, else cpu), cpu, cuda, cuda:N, or mps, which is known to give wrong GPT-2 results "
        "silently",
    )
