"""What a run shows while it trains, and how often it is measured."""

import io
import re
import sys

import train.__main__ as train_command
from data.settings import Sampling
from evaluate.results import Run
from tests.evaluate.handmade import held_out_at
from train import sweep
from train.run import progress as module
from train.run import run
from train.run.progress import Progress, duration, summed_up


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def measured_in(label: str, samples: list[int]) -> str:
    """The lines of a run of 12 samples, as a pattern."""
    lines = (rf"{label} step {n}/12  training \d\.\d\d{left(n)}" for n in samples)
    done = rf"{label} done in \d+ s: training loss \d\.\d{{3}} -> \d\.\d{{3}}, held-out \d\.\d{{3}} -> \d\.\d{{3}} "
    done += r"\(lowest \d\.\d{3} at step \d+\), ratio 0\.\d{3} -> 0\.\d{3}"
    return "\n".join([*lines, done]) + "\n"


def left(done: int) -> str:
    """After the last sample everything is measured, and a line of its own says it."""
    return r"  held-out \d\.\d\d  \d+ s left" if done < 12 else ""


def test_off_a_terminal_there_are_plain_lines(command, small_run, tmp_path):
    flags = ("--lrs", "1e-2", "1e-3", "--seeds", 2, "--samples", 12, "--out", tmp_path / "out")
    code, out, err = command(sweep.main, *small_run, *flags, "--overwrite")
    assert code == 0 and err == "" and "\r" not in out
    for label in ("1e-2, seed 0", "1e-2, seed 1", "1e-3, seed 0", "1e-3, seed 1"):
        assert len(re.findall("^" + measured_in(label, [5, 10, 12]), out, re.MULTILINE)) == 1, out
    assert len(re.findall(r"^before training: ratio 0\.\d{3}, held-out loss \d\.\d{3}, in \d+ s$", out, re.M)) == 1
    closed = out[out.index("What the learning rate") :].split(str(tmp_path))[0]
    assert max(map(len, closed.split("\n"))) <= 80


def test_on_a_terminal_there_is_one_bar_at_a_time(command, small_run, tmp_path, monkeypatch):
    terminal = Terminal()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", terminal)
        patched.setattr("tqdm.tqdm.monitor_interval", 0)  # no thread
        flags = ("--lr", "1e-2", "--samples", 12, "--out", tmp_path / "out")
        code, out, _ = command(train_command.main, *small_run, *flags)
    shown = terminal.getvalue()
    assert code == 0 and "\x1b[A" not in shown  # by which a second bar goes back to the first one's line
    assert "\n" not in shown and shown.endswith("\r")  # and nothing of them stays
    for title in ("writing before", "measuring before", "training at 1e-2", "measuring at 1e-2", "writing after 1e-2"):
        assert f"\r{title}: " in shown
    assert "1e-2 done in " in out and " step 5/12" not in out


def test_a_line_says_where_the_run_is_and_how_long_it_takes(monkeypatch, capsys):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with Progress("3e-3", 100, done=10) as progress:  # it continues: the ten steps before were another day
        for loss in (3.0, 3.32):
            progress.trained(loss)
        clock[0] += 2.0
        progress.measuring()
        progress.measured({"sample": 12, "held_out_loss": 4.4249, "kl": 0.5})
        for _ in range(87):
            progress.trained(2.0)
        progress.measured({"sample": 99})
        progress.trained(1.0)
        progress.measured({"sample": 100, "held_out_loss": float("inf")})
    assert capsys.readouterr().out.split("\n") == [
        "3e-3 step 12/100  training 3.16  held-out 4.42  88 s left",
        "3e-3 step 99/100  training 2.00  0 s left",
        "3e-3 step 100/100  training 1.00  held-out inf",
        "",
    ]


def test_times_have_two_digits_or_so():
    times = {0.4: "0 s", 99.4: "99 s", 100: "2 min", 5999: "100 min", 6000: "1.7 h", 9000: "2.5 h"}
    assert {seconds: duration(seconds) for seconds in times} == times


def test_the_sum_of_a_run():
    result = {
        "lr": 3e-3,
        "samples": 20,
        "seed": 0,
        "settings": {"top_k": 50, "temperature": 1.0, "patience": 3},
        "train_loss": [3.861, *[2.0] * 18, 1.893],
        **held_out_at([[0, 3.742], [5, 3.7419], [20, 5.143]]),
        "before": {"ratio": 0.431},
        "after": {"ratio": 0.557},
        "book": {"ratio": 0.519},
        "in_sample_ratio": 0.535,
        "shown": {},
        "environment": {"seconds": {"before": 50.0, "training": 10.0, "after": 4.0}},
    }
    expected = "3e-3 done in 14 s: training loss 3.861 -> 1.946, "
    held_out = "held-out 3.742 -> 5.143 (lowest 3.742 at step 5), "
    assert summed_up(Run(result, "3e-3")) == f"{expected}{held_out}ratio 0.431 -> 0.557"
    assert summed_up(Run(result | {"checkpoints": []}, "3e-3")) == f"{expected}ratio 0.431 -> 0.557"
    early = "3e-3 ended early after step 20, as the held-out loss had not fallen for 3 measurements, in 14 s: "
    assert summed_up(Run(result | {"samples": 99}, "3e-3")).startswith(early)


# How often, and by how many texts


def test_how_often_a_run_is_measured():
    """Six times, and then three times before its length has doubled."""
    due = {step: run.texts_due(step) for step in range(1, 400)}
    measured = [5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 160, 200, 240, 320]
    assert [step for step, texts in due.items() if texts is not None] == measured
    assert [step for step, texts in due.items() if texts is True] == [20, 40, 80, 160, 320]


def test_a_trial_writes_fewer_texts_unless_it_is_told():
    parser = train_command.open_parser("train", "", out="")

    def texts(*flags):
        return train_command.settings_of(parser.parse_args(flags)).sampling.sequences

    assert texts("--samples", "20") == texts("--samples", "99") == 32
    assert texts() == texts("--samples", "100") == Sampling.sequences == 256
    assert texts("--samples", "20", "--eval-sequences", "256") == 256
    assert "(default: 256, in a trial 32)" in " ".join(parser.format_help().split())
