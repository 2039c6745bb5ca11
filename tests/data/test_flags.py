"""The code that all commands share: flags made from settings, and errors of one line."""

import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from data.flags import Parser, add_flags, filled
from data.settings import Sampling, Settings, Training
from train import sweep

CUDA = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 2 GiB is free"


def run(command, work) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that does `work`."""

    def main():
        with Parser().errors_in_one_line():
            work()

    return command(main)


def raises(error):
    def work():
        raise error

    return work


# What a file says


def test_what_files_say_cannot_reach_the_terminal(command):
    """Names of tensors, folders and texts: no control character, no mark that turns a line round, no megabytes."""
    hostile = "a\x1b[2J\x07\u202e\udce9b\u200c"
    code, _, err = run(command, raises(ValueError(hostile + "x" * 5_000_000 + "end")))
    assert code == 2 and err.startswith("error: a [2J ?b\u200cxxx") and err.endswith("xend\n") and len(err) < 1100
    assert run(command, lambda: print(hostile))[1] == "a [2J  ?b\u200c\n"


def test_a_path_may_begin_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    found = filled(Settings, parsed(Settings, "--model=~/m", "--text=~/t.txt", "--general-text=~/g.txt"))
    assert (found.model, found.text, found.general_text) == ("/home/anna/m", "/home/anna/t.txt", "/home/anna/g.txt")


# Flags from settings


def parsed(settings, *flags, **options):
    parser = Parser()
    add_flags(parser, settings, "all", **options)
    return vars(parser.parse_args(flags))


def test_without_flags_the_settings_are_their_defaults():
    assert filled(Settings, parsed(Settings)) == Settings()
    assert (Settings().training, Settings().sampling) == (Training(), Sampling())


def test_every_setting_has_a_flag():
    flags = "--model m --text t --raw-text --general-text g --device cpu --dtype float32 --no-save-model --samples 2 "
    flags += "--batch-size 3 --seq-len 4 --weight-decay 0.5 --dropout 0.25 --holdout 0.125 --micro-batch 5 --seed 6 "
    flags += "--eval-sequences 7 --eval-tokens 8 --temperature 0.75 --top-k 9"
    training, sampling = Training(2, 3, 4, 0.5, 0.25, 0.125, 6, 5), Sampling(7, 8, 0.75, 9, 6)
    expected = Settings("m", "t", True, "g", training, sampling, "cpu", "float32", False)
    assert filled(Settings, parsed(Settings, *flags.split())) == expected


def test_a_command_takes_some_settings_and_has_defaults_of_its_own():
    assert parsed(Sampling, names=("top_k", "seed"), top_k=40) == {"top_k": 40, "seed": 0}
    assert filled(Sampling, {"top_k": 40, "lr": 0.1}) == Sampling(top_k=40)


def test_help_states_every_default():
    parser = Parser()
    add_flags(parser, Settings, "all", dtype="float32")
    parser.add_argument("--lr", default=1e-4, help="learning rate")
    parser.add_argument("--overwrite", action="store_true", help="delete what is there (default: keep)")
    parser.set_defaults(top_k=None)
    stated = re.findall(r"^  --(\S+).*?\(default: (.*?)\)", parser.format_help(), re.MULTILINE | re.DOTALL)
    defaults = {flag: " ".join(default.split()) for flag, default in stated}
    assert defaults.items() >= {"lr": "0.0001", "dtype": "float32", "top-k": "50", "seed": "0"}.items()
    assert len(defaults) == len(re.findall("^  --", parser.format_help(), re.MULTILINE))


def test_nothing_heavy_is_loaded_before_the_flags_are_read():
    """Loading PyTorch takes a second, on slow machines four: `--help` and a mistyped flag do not wait for it."""
    rooms = ("model", "train", "train.pretrain", "train.verify", "evaluate", "evaluate.rate", "evaluate.report")
    commands = [*(f"{room}.__main__" for room in rooms), "train.sweep", "evaluate.plot"]
    heavy = {"torch", "numpy", "tiktoken", "matplotlib", "huggingface_hub", "jinja2", "safetensors", "tqdm"}
    code = f"import {', '.join(commands)}, sys; print(*{heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


# Errors


@pytest.mark.parametrize(
    "work",
    [
        lambda: torch.empty(2**50),
        lambda: np.empty(2**52),
        lambda: bytearray(2**62),
        raises(torch.OutOfMemoryError(CUDA)),
        raises(RuntimeError("std::bad_alloc")),
    ],
)
def test_too_little_memory_is_told_in_one_line_with_what_needs_less(command, work):
    expected = "error: out of memory; use a smaller --micro-batch or --batch-size\n"
    assert run(command, work) == (2, "", expected)


def test_what_is_no_lack_of_memory_is_not_called_one(command):
    for error in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), TypeError("x"), AssertionError()):
        with pytest.raises(type(error)):
            run(command, raises(error))


def test_errors_for_people_and_ctrl_c(command):
    assert run(command, raises(ValueError("two\n  lines"))) == (2, "", "error: two lines\n")
    assert run(command, raises(FileNotFoundError("no file"))) == (2, "", "error: no file\n")
    assert run(command, raises(KeyboardInterrupt())) == (130, "", "")
    assert run(command, lambda: print("done")) == (0, "done\n", "")


# Standard streams


def broken_pipe():
    """A stream that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", encoding="utf-8")


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


def test_a_run_outlives_the_reader_of_its_lines(monkeypatch, small_run, tmp_path):
    """`python -m train.sweep | head -1`, and a log on a full disk."""
    flags = (*small_run, "--out", tmp_path / "out", "--lrs", "1e-3")
    monkeypatch.setattr("evaluate.report.plots.plot_all", lambda *_: [])
    monkeypatch.setattr(sys, "argv", ["sweep", *map(str, flags)])
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, broken_pipe())
    sweep.main()
    sys.stdout.close(), sys.stderr.close()
    assert sorted(file.parent.name for file in tmp_path.glob("out/*/result.json")) == ["lr-1e-3"]
    assert (tmp_path / "out" / "report.html").is_file()
