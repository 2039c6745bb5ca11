"""The door of every command: what goes wrong behind it ends in one line."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from evaluate.flags import Parser, add_sampling_flags, open_streams
from train import sweep
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


# Before the flags are read


def test_nothing_heavy_is_loaded_before_the_flags_are_read():
    """Loading PyTorch takes a second, on slow machines four: `--help` and a mistyped flag do not wait for it."""
    rooms = ("model", "train", "train.pretrain", "train.verify", "evaluate", "evaluate.rate", "evaluate.report")
    commands = [*(f"{room}.__main__" for room in rooms), "train.sweep", "evaluate.plot"]
    heavy = {"torch", "numpy", "tiktoken", "matplotlib", "huggingface_hub", "jinja2", "safetensors", "tqdm"}
    code = f"import {', '.join(commands)}, sys; print(*{heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


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


# Standard streams


def broken_pipe():
    """A stream that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", encoding="utf-8")


def test_streams_that_were_closed_are_there(monkeypatch):
    """As with `<&- >&- 2>&-`; Python has None for them."""
    with monkeypatch.context() as patched:
        for name in ("stdin", "stdout", "stderr"):
            patched.setattr(sys, name, None)
        open_streams()
        opened = sys.stdin, sys.stdout, sys.stderr
        print("“heard by nobody”", flush=True)
        sys.stderr.write("nor this")
        assert sys.stdin.read() == "" and not sys.stdout.isatty()
    for stream in opened:
        stream.close()


def test_an_error_that_nobody_can_hear_has_its_exit_code(monkeypatch):
    for stream in (None, broken_pipe()):
        with monkeypatch.context() as patched, pytest.raises(SystemExit) as end:
            patched.setattr(sys, "stderr", stream)
            Parser().error("wrong")
        assert end.value.code == 2


def test_a_terminal_that_has_ascii_alone(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    with Parser().errors_in_one_line():
        print("“16 × 256” …")
    assert written.getvalue() == b"?16 ? 256? ?\n"


def test_a_reader_who_has_seen_enough_is_no_error(monkeypatch, capsys):
    """As with `| head -1`, also where the last of it is only flushed at the end."""
    for text in ("short\n", "long\n" * 100_000):
        monkeypatch.setattr(sys, "stdout", broken_pipe())
        with Parser().errors_in_one_line():
            print(text)
        sys.stdout.close()  # what is left in its buffer goes nowhere, and raises nothing
    assert capsys.readouterr().err == ""


def test_a_run_outlives_the_reader_of_its_lines(monkeypatch, model_folder, text_file, tmp_path):
    """`python -m train.sweep | head -1`, and a log on a full disk."""
    flags = ["--model", model_folder, "--text", text_file, "--seq-len", 16, "--batch-size", 2, "--samples", 2]
    flags += ["--eval-sequences", 2, "--eval-tokens", 2, "--out", tmp_path / "out", "--lrs", "1e-3", "1e-4"]
    monkeypatch.setattr("evaluate.report.plots.plot_all", lambda *_: [])
    monkeypatch.setattr(sys, "argv", ["sweep", *map(str, flags)])
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, broken_pipe())
    sweep.main()
    sys.stdout.close(), sys.stderr.close()
    assert sorted(file.parent.name for file in tmp_path.glob("out/*/result.json")) == ["lr-1e-3", "lr-1e-4"]
    assert (tmp_path / "out" / "report.html").is_file()
