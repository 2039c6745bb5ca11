"""Command-line code shared by all commands: a parser with errors of one line, checks of values, flags from settings.

Nothing heavy is imported here, nor at the top of any command: loading PyTorch takes seconds on a slow machine, and
`--help` or a mistyped flag should not wait for it. A command imports its work after it has read its flags.
"""

import argparse
import dataclasses
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeVar

S = TypeVar("S")  # a dataclass of settings

MIN_TEMPERATURE = 1e-6  # logits divided by a much smaller number overflow float32


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to the help of each flag, unless there is none or the help states it already."""

    def _get_help_string(self, action: argparse.Action) -> str:
        stated = "(default: " in action.help or action.default is None or action.default is False
        return action.help if stated else super()._get_help_string(action)


# Control characters, and the marks that turn a line round: a terminal obeys them.
COMMANDS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
LONGEST = 1000  # characters of an error; a file may give anything a name of megabytes


def plain(text: str) -> str:
    """`text` of the same length, with a blank for what could change a terminal, and "?" for half a surrogate."""
    return COMMANDS.sub(" ", text.encode("utf-8", "replace").decode("utf-8"))


class PlainOutput:
    """Standard output, on which names and texts from files are `plain`."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(plain(text))

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


class Parser(argparse.ArgumentParser):
    """A parser that prints an error in one line, without the usage, and exits with 2."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, formatter_class=Formatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        message = " ".join(plain(message).split())
        if len(message) > LONGEST:
            message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
        self.exit(2, f"error: {message}\n")

    @contextmanager
    def errors_in_one_line(self) -> Iterator[None]:
        """A context for a command's work: expected errors, Ctrl-C and a closed pipe end it without a traceback."""
        os.environ.pop("MPLBACKEND", None)  # a notebook's, without which matplotlib would not load; files need none
        # Waiting threads of PyTorch soon sleep. By default they spin, which is many times slower on a busy machine.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        with suppress(AttributeError):  # a terminal that knows only ASCII shows "?" for other characters
            sys.stdout.reconfigure(errors="replace")
        try:
            with redirect_stdout(PlainOutput(sys.stdout)):
                yield
            print(end="", flush=True)
        except BrokenPipeError:  # `| head` has read enough; Python must not flush the rest at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            sys.exit(130)
        except (ValueError, OSError, OverflowError) as error:
            self.error(str(error))
        except (MemoryError, RuntimeError) as error:
            # torch raises a RuntimeError, of a subclass on a GPU
            if not (isinstance(error, MemoryError) or re.search("out of memory|CPUAllocator|bad_alloc", str(error))):
                raise
            self.error("out of memory; use a smaller --micro-batch or --batch-size")


def add_flags(parser: Parser, settings: type, title: str, names: tuple[str, ...] | None = None, **defaults) -> None:
    """Add a group of flags, one for each field of `settings`; a field that is settings itself becomes another group.

    Args:
        names: the fields to use; None: all.
        defaults: replace the defaults of these fields. A list lets the flag take several values.
    """
    group = parser.add_argument_group(title)
    for field in dataclasses.fields(settings):
        if names is not None and field.name not in names:
            continue
        if dataclasses.is_dataclass(field.type):
            add_flags(parser, field.type, field.name, **defaults)
        elif field.metadata:
            options = dict(field.metadata) | {"dest": field.name, "default": defaults.get(field.name, field.default)}
            if several := isinstance(options["default"], list):
                options["nargs"] = "+"
            flag = options.pop("flag") or f"--{'no-' if field.default is True else ''}{field.name.replace('_', '-')}"
            if field.type is bool:
                del options["type"]
                options["action"] = "store_false" if field.default else "store_true"
            elif options["default"] is not None and "(default: " not in options["help"]:
                # Not left to the formatter: a command may change the default afterwards, to see which flags were given.
                options["help"] += f" (default: {options['default'][0] if several else options['default']})"
            group.add_argument(flag, **options)


def filled(settings: type[S], values: dict) -> S:
    """Return a `settings` object. Its fields, and the fields of its fields, come from `values` if they are there."""
    fields = dataclasses.fields(settings)
    found = {field.name: values[field.name] for field in fields if field.name in values}
    found |= {field.name: filled(field.type, values) for field in fields if dataclasses.is_dataclass(field.type)}
    return settings(**found)


def checked(kind: type, text: str, fits: Callable[[Any], bool], wanted: str) -> Any:
    """`text` as a number; argparse shows the error after the flag's name."""
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not fits(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value


def path(text: str) -> Path:
    """`text` as a path; a leading ~ is the home folder, also where no shell has replaced it, as in --out=~/runs."""
    return Path(os.path.expanduser(text))


def positive_int(text: str, most: float = math.inf) -> int:
    wanted = "a whole number above 0" if most == math.inf else f"a whole number from 1 to {most}"
    return checked(int, text, lambda n: 1 <= n <= most, wanted)


def positive_float(text: str) -> float:
    return checked(float, text, lambda x: 0 < x < math.inf, "a finite number above 0, such as 1e-4")


def not_negative(text: str) -> float:
    return checked(float, text, lambda x: 0 <= x < math.inf, "a finite number from 0 up")


def part(text: str) -> str:
    wanted = "all, attention, mlp, norms, nor last:N with a whole number N above 0"
    return checked(str, text, re.compile("all|attention|mlp|norms|last:[1-9][0-9]*").fullmatch, wanted)


def whole_number(text: str) -> int:
    return checked(int, text, lambda n: n >= 0, "a whole number from 0 up")


def seed(text: str) -> int:
    return checked(int, text, lambda n: 0 <= n < 2**63, "a whole number from 0 up to 2**63 - 1")


def share(text: str) -> float:
    return checked(float, text, lambda x: 0 <= x < 1, "a number from 0 to below 1")


def temperature(text: str) -> float:
    wanted = f"0, nor a finite number of at least {MIN_TEMPERATURE}; 0 always takes the most likely token"
    return checked(float, text, lambda x: x == 0 or MIN_TEMPERATURE <= x < math.inf, wanted)
