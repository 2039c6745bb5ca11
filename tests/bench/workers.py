"""Processes that take turns: ours, theirs, ours, theirs. What slows the machine down slows both."""

import json
import os
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

import torch

from tests.bench.rows import TRAIN

HERE = Path(__file__).resolve().parent


class Worker:
    """A process that prepares a task and then does it whenever it is asked to."""

    def __init__(self, python: str, script: str, task: dict):
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [python, str(HERE / script), json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.answer()  # prepared
        self.start_seconds = time.perf_counter() - self.began

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker died with code {self.process.wait()}: {' '.join(self.process.args)}")
        return json.loads(line)

    def turn(self) -> dict:
        """Do the task once: its seconds, and the most bytes held so far."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(ours: Worker, theirs: Worker, turns: int) -> dict:
    """Seconds of both sides turn by turn, the ratio theirs / ours, and the bytes each has needed; closes them."""
    try:
        for worker in (ours, theirs, ours, theirs):
            worker.turn()
        pairs = [(ours.turn(), theirs.turn()) for _ in range(turns)]
    finally:
        ours.close(), theirs.close()
    seconds = [[answer["seconds"] for answer in side] for side in zip(*pairs)]
    medians = [statistics.median(side) for side in seconds]
    steady = [all(s <= 1.5 * m for s, m in zip(pair, medians)) for pair in zip(*seconds)]
    return {
        "seconds_ours": seconds[0],
        "seconds_theirs": seconds[1],
        "ratio": statistics.median(b / a for a, b, good in zip(*seconds, steady) if good),
        "pairs_left_out": steady.count(False),
        "peak_bytes_ours": pairs[-1][0]["peak_bytes"],
        "peak_bytes_theirs": pairs[-1][1]["peak_bytes"],
    }


def compare_starts(python: str, common: dict, turns: int) -> dict:
    """Seconds from starting the interpreter to the end of the first training step of one short window."""
    task = TRAIN | {"work": "start", "batch_size": 1, "seq_len": 16, "dtype": "float32"} | common
    seconds = {"ours": [], "theirs": []}
    for _ in range(turns + 1):
        for side, interpreter in (("ours", sys.executable), ("theirs", python)):
            worker = Worker(interpreter, f"{side}.py", task)
            worker.close()
            seconds[side].append(worker.start_seconds)
    ours, theirs = seconds["ours"][1:], seconds["theirs"][1:]  # the first of each filled the file cache
    ratio = statistics.median(b / a for a, b in zip(ours, theirs))
    return {"seconds_ours": ours, "seconds_theirs": theirs, "ratio": ratio}


def their_python(folder: Path) -> str:
    """Python of an environment with transformers, made in `folder` on first use."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True)
        packages = [f"torch=={torch.__version__.split('+')[0]}", "transformers>=5,<6"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        done.touch()
    return str(python)
