"""Processes that take turns: ours, theirs, ours, theirs. What slows the machine down slows both."""

import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
import venv
from pathlib import Path
from subprocess import PIPE, CalledProcessError, Popen, run

import torch

HERE = Path(__file__).resolve().parent


class Worker:
    """A process that prepares a task and then does it whenever it is asked to."""

    def __init__(self, python: str, script: str, task: dict):
        began = time.perf_counter()
        self.said = tempfile.TemporaryFile("w+")
        line = [python, str(HERE / script), json.dumps(task)]
        self.process = Popen(line, stdin=PIPE, stdout=PIPE, stderr=self.said, text=True)
        self.answer()  # prepared
        self.start_seconds = time.perf_counter() - began

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.said.seek(0)
            last = (self.said.read().strip() or "it said nothing").splitlines()[-1]
            raise RuntimeError(f"{self.process.args[1]} ended with code {code}: {last}")
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


def compare_starts(python: str, task: dict, turns: int) -> dict:
    """Seconds from starting the interpreter to the end of the first training step of one short window."""
    seconds = {"ours": [], "theirs": []}
    for _ in range(turns + 1):
        for side, interpreter in (("ours", sys.executable), ("theirs", python)):
            worker = Worker(interpreter, f"{side}.py", task)
            worker.close()
            seconds[side].append(worker.start_seconds)
    ours, theirs = seconds["ours"][1:], seconds["theirs"][1:]  # the first of each filled the file cache
    ratio = statistics.median(b / a for a, b in zip(ours, theirs))
    return {"seconds_ours": ours, "seconds_theirs": theirs, "ratio": ratio}


def run_seconds(command: str, *flags: str) -> dict[str, dict[str, float]]:
    """Seconds of `python -m {command}`, in all and of the parts of each of its runs, by folder."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run([sys.executable, "-m", command, "--out", folder, *flags], check=True)
        found = {"in all": {"the command": time.perf_counter() - began}}
        for file in sorted(Path(folder).rglob("result.json")):
            found[file.parent.name] = json.loads(file.read_text(encoding="utf-8"))["environment"]["seconds"]
    return found


def their_python(folder: Path) -> str | None:
    """A Python with transformers: this one, or that of an environment in `folder`, made on first use if there is a
    network; else None."""
    if importlib.util.find_spec("transformers"):
        return sys.executable
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "installed").exists():
        packages = [f"torch=={torch.__version__.split('+')[0]}", "transformers>=5,<6"]
        try:
            venv.create(folder, with_pip=True)
            run([python, "-m", "pip", "install", "--quiet", *packages], check=True, capture_output=True)
        except CalledProcessError:
            print("transformers is not here and could not be installed: the rows against it are left out", flush=True)
            return None
        (folder / "installed").touch()
    return str(python)
