"""Runs of `python -m train` that are killed or told to stop at exact moments; test_interruption.py starts this.

    python tests/interrupted.py FOLDER MODEL TEXT

PyTorch is imported once and every run is a fork of this process, which itself computes nothing. Writes
`codes.json`, the exit code of each (below 0: the signal that killed it), and what each printed, to FOLDER.
pytest does not collect this file.
"""

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import evaluate.baseline  # noqa: E402
import train.__main__ as command  # noqa: E402
import train.loop  # noqa: E402
import train.run.checkpoint  # noqa: E402
import train.run.outcome  # noqa: E402
import train.run.run  # noqa: E402


def at_call(module, name: str, call: int, *numbers: int) -> None:
    """Send this process the signals `numbers` when `module.name` is called for the `call`-th time, before it runs."""
    original, calls = getattr(module, name), []

    def hooked(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            for number in numbers:
                os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(module, name, hooked)


def save_every(steps: int) -> None:
    train.run.checkpoint.Checkpointer.due = lambda saver, ended: saver.optimizer.steps % steps == 0


def full_disk() -> None:
    save_every(1)

    def raises(*args):
        raise OSError(28, "No space left on device")

    train.run.checkpoint.save_checkpoint = raises


def cases() -> dict:
    """Name: (run folder, what happens to it). A folder that comes again goes on."""
    KILL, CTRL_C, TERM = signal.SIGKILL, signal.SIGINT, signal.SIGTERM
    return {
        "whole": ("whole", lambda: None),
        # Batches are counted from 1 in each process, so these are samples 6, 3 and so on of what is left.
        "killed": ("chain", lambda: (save_every(4), at_call(train.loop, "sample_batch", 7, KILL))),
        "killed while writing": ("chain", lambda: (save_every(2), at_call(os, "replace", 7, KILL))),
        "ctrl-c": ("chain", lambda: at_call(train.loop, "sample_batch", 2, CTRL_C)),
        "sigterm": ("chain", lambda: at_call(train.loop, "sample_batch", 1, TERM)),
        "killed in the evaluation": (
            "chain",
            lambda: (save_every(12), at_call(evaluate.baseline.Baseline, "measure", 3, KILL)),
        ),  # of best/
        "killed before the result": ("chain", lambda: at_call(train.run.outcome, "write_result", 1, KILL)),
        "finished": ("chain", lambda: None),
        "ctrl-c twice": ("twice", lambda: at_call(train.loop, "sample_batch", 3, CTRL_C, CTRL_C)),
        "ctrl-c before training": ("early", lambda: at_call(evaluate.baseline.Baseline, "measure", 1, CTRL_C)),
        "full disk": ("full", full_disk),
    }


def run(arguments: list[str], prepare, log: Path) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 99
    try:
        with open(log, "w", encoding="utf-8") as opened:
            os.dup2(opened.fileno(), 1)
            os.dup2(opened.fileno(), 2)
        prepare()
        sys.argv = ["train", *arguments]
        command.main()
        code = 0
    except SystemExit as exit:
        code = exit.code or 0
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    out, model, text = sys.argv[1:]
    settings = "--lr 0.3 --seed 2 --samples 12 --batch-size 4 --seq-len 16 --dropout 0.2 --dtype float32 "
    settings += "--eval-sequences 2 --eval-tokens 4"
    train.run.run.MIN_STEPS = 3
    codes, states = {}, {}
    for name, (folder, prepare) in cases().items():
        arguments = ["--model", model, "--text", text, "--out", f"{out}/{folder}", *settings.split()]
        codes[name] = run(arguments, prepare, Path(out) / f"{name}.txt")
        states[name] = sorted(file.name for file in (Path(out) / folder).iterdir())
    (Path(out) / "codes.json").write_text(json.dumps([codes, states]), encoding="utf-8")


if __name__ == "__main__":
    main()
