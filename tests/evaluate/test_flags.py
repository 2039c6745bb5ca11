"""The door of every command: what goes wrong behind it ends in one line."""

import numpy as np
import pytest
import torch

from evaluate.flags import Parser, add_sampling_flags
from train.flags import add_request_flags

CUDA = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 2 GiB is free"


def behind_the_door(command, work, *add_flags) -> tuple[int, str, str]:
    def main():
        parser = Parser(prog="command")
        for add in add_flags:
            add(parser)
        parser.parse_args()
        with parser.errors_in_one_line():
            work()

    return command(main)


def raises(error):
    def work():
        raise error

    return work


# Too little memory


@pytest.mark.parametrize(
    ("work", "asked"),
    [
        (lambda: torch.empty(2**50), ": 4,503,599.63 GB more were asked for"),
        (lambda: np.empty(2**52), ": 36,028,797.02 GB more were asked for"),
        (lambda: torch.empty(2**31, 2**31, 2**31), ""),
        (lambda: bytearray(2**62), ""),
        (raises(torch.OutOfMemoryError(CUDA)), ": 21.47 GB more were asked for"),
        (raises(RuntimeError("std::bad_alloc")), ""),
    ],
)
def test_too_little_memory_is_told_in_one_line_with_what_needs_less(command, work, asked):
    code, _, err = behind_the_door(command, work, lambda parser: add_request_flags(parser))
    assert code == 2
    assert err == f"error: out of memory{asked}; use a smaller --micro-batch or --batch-size or --eval-sequences\n"
    _, _, err = behind_the_door(command, work, add_sampling_flags)
    assert err == f"error: out of memory{asked}; use a smaller --eval-sequences\n"
    _, _, err = behind_the_door(command, work)
    assert err == f"error: out of memory{asked}; use a smaller model or a machine with more\n"


def test_what_is_no_lack_of_memory_is_not_called_one(command):
    for error in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), TypeError("x"), AssertionError()):
        with pytest.raises(type(error)):
            behind_the_door(command, raises(error))


def test_errors_for_people_and_ctrl_c(command):
    assert behind_the_door(command, raises(ValueError("two\n  lines"))) == (2, "", "error: two lines\n")
    assert behind_the_door(command, raises(FileNotFoundError("no file"))) == (2, "", "error: no file\n")
    assert behind_the_door(command, raises(KeyboardInterrupt())) == (130, "", "")
    assert behind_the_door(command, lambda: print("done")) == (0, "done\n", "")
