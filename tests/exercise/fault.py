"""Find the fault: a copy of the project with one line of `tests/mutants.py` in it, drawn by seed and level."""

import ast
import json
import os
import random
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure

from evaluate.plot import style_of
from evaluate.results import lr_label
from tests.exercise.copies import MARK, ROOT, copy_project
from tests.mutants import FAULTS, Fault, put_in

# The reading path: what a student has read, and what the README's experiment runs through.
LEARNING = (
    "model/gpt2.py",
    "model/sampling.py",
    "data/batches.py",
    "data/generators.py",
    "train/adamw.py",
    "train/loop.py",
    "train/experiment.py",
    "evaluate/ratio.py",
)
SEEN = 0.05  # nats; a loss that differs by so much at some sample is a symptom
SEEN_RATIO = 0.05
SYMPTOM_FILE = "symptom.png"


def candidates(level: int, seed: int) -> list[int]:
    """Numbers in FAULTS, in the order in which `seed` draws them; of resume, locks and formats at level 1 only."""
    numbers = [i for i, fault in enumerate(FAULTS) if level == 1 or fault.file in LEARNING]
    random.Random(f"{level} {seed}").shuffle(numbers)
    return numbers


def begin(folder: Path, level: int, seed: int, again: bool) -> str:
    """Make the copy with a fault in it; returns what the student is told.

    Raises:
        FileExistsError: see `copy_project`.
    """
    copy_project(folder, {}, again)
    healthy = start(ROOT) if level == 2 else None
    for number in candidates(level, seed):
        fault = FAULTS[number]
        file, whole = folder / fault.file, (ROOT / fault.file).read_text(encoding="utf-8")
        file.write_text(put_in(fault, whole), encoding="utf-8")
        told = {1: f"The fault is in {fault.file}.", 3: "That is all."}.get(level)
        if level == 2:
            healthy = finish(healthy) if isinstance(healthy, subprocess.Popen) else healthy
            told = symptom(folder, healthy, finish(start(folder)))
        if told:
            (folder / MARK).write_text(json.dumps({"fault": number}), encoding="utf-8")
            return f"One line of {folder} is wrong, and nothing says so.\n{told}"
        file.write_text(whole, encoding="utf-8")  # nothing is seen of this one: take the next
    raise AssertionError("no fault shows a symptom")


def start(folder: Path) -> subprocess.Popen:
    """`symptom.py` under way in `folder`."""
    command = [sys.executable, "-m", "tests.exercise.symptom"]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)


def finish(process: subprocess.Popen) -> list[dict] | None:
    """What `symptom.py` found; None where it stopped with an error, which names its place and is no riddle."""
    printed, _ = process.communicate()
    return json.loads(printed) if process.returncode == 0 else None


def symptom(folder: Path, healthy: list[dict], faulty: list[dict] | None) -> str:
    """The losses and ratios beside the healthy ones, and a figure of both; "" where nothing is to be seen."""
    if faulty is None:
        return ""
    lines, seen = [f"{'':8}{'healthy: loss, ratio':>28}{'here: loss, ratio':>28}"], False
    for a, b in zip(healthy, faulty):
        seen |= len(a["losses"]) != len(b["losses"]) or a["after"] is None or b["after"] is None
        seen |= any(not abs(x - y) < SEEN for x, y in zip(a["losses"], b["losses"]))
        seen |= any(not abs((a[when] or 0) - (b[when] or 0)) < SEEN_RATIO for when in ("before", "after"))
        lines.append(f"{lr_label(a['lr']):8}{in_numbers(a):>28}{in_numbers(b):>28}")
    plot(healthy, faulty, folder / SYMPTOM_FILE)
    return "\n".join([*lines, f"The loss lines and ratios: {folder / SYMPTOM_FILE}"]) if seen else ""


def in_numbers(row: dict) -> str:
    if row["after"] is None:
        return f"diverged at sample {len(row['losses'])}"
    last = sum(row["losses"][-4:]) / 4
    return f"{row['losses'][0]:.2f} to {last:.2f}, {row['before']:.2f} to {row['after']:.2f}"


def plot(healthy: list[dict], faulty: list[dict], file: Path) -> None:
    figure = Figure(figsize=(9, 6), dpi=120, layout="constrained")
    styles = style_of([row["lr"] for row in healthy])
    panels = figure.subplots(2, 2, sharey="row", sharex="row")
    for column, (title, rows) in enumerate((("healthy", healthy), ("here", faulty))):
        losses, ratios = panels[:, column]
        for i, row in enumerate(rows):
            style, label = styles[row["lr"]], lr_label(row["lr"])
            losses.plot(range(1, len(row["losses"]) + 1), row["losses"], **style, label=label, markevery=6)
            ratios.bar([i - 0.2], [row["before"]], 0.4, color="white", edgecolor=style["color"], hatch="//")
            ratios.bar([i + 0.2], [row["after"] or 0], 0.4, color=style["color"])
        losses.set(title=title, xlabel="sample", ylabel="training loss (nats per token)")
        losses.legend(frameon=False, title="learning rate")
        ratios.set(xlabel="learning rate; before (hatched) and after", ylabel="frequent-token ratio")
        ratios.set_xticks(range(len(rows)), [lr_label(row["lr"]) for row in rows])
    figure.savefig(file)


def answer(folder: Path, said: str) -> str:
    """Whether `said`, such as model/gpt2.py:47, is the place.

    Raises:
        ValueError: there is no such line.
    """
    name, _, line = said.rpartition(":")
    file = Path(os.path.normpath(name))
    if not name or not (ROOT / file).is_file():
        raise ValueError(f"there is no file {name!r}; answer with file and line, such as model/gpt2.py:47")
    fault = drawn(folder)
    lines = (ROOT / file).read_text(encoding="utf-8").count("\n")
    if not line.isdecimal() or not 1 <= int(line) <= lines:
        raise ValueError(f"{file} has no line {line!r}, but lines 1 to {lines}; answer with its number as you got it")
    if file.as_posix() == fault.file and int(line) in rows_of(fault):
        return f"Right.\n{explanation(fault)}"
    return "No, not there. Look again; --solution tells it."


def drawn(folder: Path) -> Fault:
    """The fault in `folder`.

    Raises:
        ValueError: there is none.
    """
    try:
        return FAULTS[json.loads((folder / MARK).read_text(encoding="utf-8"))["fault"]]
    except (OSError, ValueError, KeyError, IndexError):
        raise ValueError(f"no fault was put into {folder} yet; the command without --answer does") from None


def rows_of(fault: Fault) -> range:
    """The lines of the faulty statement; of one that has a body (if, for, def) those that were changed."""
    source = put_in(fault, whole := (ROOT / fault.file).read_text(encoding="utf-8"))
    first = whole[: whole.index(fault.old)].count("\n") + 1
    last = first + fault.new.count("\n")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and not hasattr(node, "body") and node.lineno <= first <= last <= node.end_lineno:
            return range(node.lineno, node.end_lineno + 1)
    return range(first, last + 1)


def explanation(fault: Fault) -> str:
    told = "\n".join(f"  python -m pytest tests/{test}" for test in fault.tests.split())
    return (
        f"{fault.file}:{rows_of(fault)[0]}: {fault.breaks}.\n  here:    {' '.join(fault.new.split())}\n"
        f"  healthy: {' '.join(fault.old.split())}\nIt would have been told by\n{told}"
    )
