"""Find the fault: a copy of the project with one fault of `tests/mutants.py` in it, drawn by seed and level.

python -m tests.exercise.fault     # which faults show a symptom? Writes visible.json; a quarter of an hour
"""

import ast
import json
import os
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evaluate.report.plots import Figure, style_of
from evaluate.results import lr_label
from tests.exercise.copies import MARK, ROOT, copy_project
from tests.mutants import FAULTS, Fault, put_in

SEEN = 0.05  # nats; a loss that differs by this much at some sample is a symptom
SEEN_RATIO = 0.05
SYMPTOM_FILE = "symptom.png"
VISIBLE_FILE = Path(__file__).with_name("visible.json")  # names of the faults with a symptom, for level 2


def candidates(level: int, seed: int) -> list[int]:
    """Numbers in FAULTS in the order in which `seed` draws them; at level 2 only faults with a symptom."""
    visible = json.loads(VISIBLE_FILE.read_text(encoding="utf-8"))
    numbers = [i for i, fault in enumerate(FAULTS) if level != 2 or fault.name in visible]
    random.Random(f"{level} {seed}").shuffle(numbers)
    return numbers


def begin(folder: Path, level: int, seed: int, again: bool) -> str:
    """Make the copy with a fault in it; returns what the student is told."""
    number = candidates(level, seed)[0]
    fault = FAULTS[number]
    copy_project(folder, {"fault": number}, again)
    whole = (ROOT / fault.file).read_text(encoding="utf-8")
    (folder / fault.file).write_text(put_in(fault, whole), encoding="utf-8")
    told = {1: f"It is in {fault.file}.", 2: "", 3: "There is no further hint at this level."}[level]
    if level == 2:
        print("running the healthy and the faulty code: half a minute", flush=True)
        both = start(ROOT), start(folder)
        told, _ = symptom(folder, *map(finish, both))
    return f"{os.path.relpath(folder)} is a copy of the project with one fault in it.\n{told}"


def start(folder: Path, *lrs: str) -> subprocess.Popen:
    """Start `symptom.py` in `folder`, at its own learning rates or at `lrs`."""
    command = [sys.executable, "-m", "tests.exercise.symptom", *lrs]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)


def finish(process: subprocess.Popen) -> list[dict] | None:
    """What `symptom.py` printed; None where it stopped with an error, which already names the place of the fault."""
    printed, _ = process.communicate()
    return json.loads(printed) if process.returncode == 0 else None


def symptom(folder: Path, healthy: list[dict], faulty: list[dict] | None) -> tuple[str, bool]:
    """A table of the healthy and the faulty losses and ratios, drawn to a figure too; and whether they differ."""
    if faulty is None:
        return "The faulty code stops with an error.", False
    lines, seen = [f"{'':8}{'healthy: loss, ratio':>28}{'here: loss, ratio':>28}"], False
    for a, b in zip(healthy, faulty):
        seen |= len(a["losses"]) != len(b["losses"]) or a["after"] is None or b["after"] is None
        seen |= any(not abs(x - y) < SEEN for x, y in zip(a["losses"], b["losses"]))
        seen |= any(not abs((a[when] or 0) - (b[when] or 0)) < SEEN_RATIO for when in ("before", "after"))
        lines.append(f"{lr_label(a['lr']):8}{in_numbers(a):>28}{in_numbers(b):>28}")
    plot(healthy, faulty, folder / SYMPTOM_FILE)
    return "\n".join([*lines, f"losses and ratios as a figure: {os.path.relpath(folder / SYMPTOM_FILE)}"]), seen


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


def answer(folder: Path, said: str) -> tuple[str, bool]:
    """What to tell the student who says that the fault is at `said`, such as model/gpt2.py:47; and whether it is."""
    name, _, line = said.rpartition(":")
    file = Path(os.path.normpath(name))
    if not name or not (ROOT / file).is_file():
        raise ValueError(f"there is no file {name!r}; answer with file and line, such as model/gpt2.py:47")
    fault = drawn(folder)
    lines = (ROOT / file).read_text(encoding="utf-8").count("\n")
    if not line.isdecimal() or not 1 <= int(line) <= lines:
        raise ValueError(f"{file} has lines 1 to {lines}, not {line!r}; count them in the copy as it was made")
    if file.as_posix() == fault.file and int(line) in rows_of(fault):
        return f"Right.\n{explanation(fault)}", True
    return "No, the fault is not there. --solution shows its place.", False


def drawn(folder: Path) -> Fault:
    """The fault in the copy `folder`."""
    try:
        return FAULTS[json.loads((folder / MARK).read_text(encoding="utf-8"))["fault"]]
    except (OSError, ValueError, KeyError, IndexError):
        raise ValueError(f"no fault was put into {folder} yet; give the command without --answer first") from None


def rows_of(fault: Fault) -> range:
    """The lines of the faulty statement; only the changed lines where it is long or has a body (if, for, def)."""
    source = put_in(fault, whole := (ROOT / fault.file).read_text(encoding="utf-8"))
    first = whole[: whole.index(fault.old)].count("\n") + 1
    last = first + fault.new.count("\n")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and not hasattr(node, "body") and node.lineno <= first <= last <= node.end_lineno:
            rows = range(node.lineno, node.end_lineno + 1)
            return rows if len(rows) < 15 else range(first, last + 1)
    return range(first, last + 1)


def explanation(fault: Fault) -> str:
    told = "\n".join(f"  python -m pytest tests/{test}" for test in fault.tests.split())
    return (
        f"{fault.file}:{rows_of(fault)[0]}: {fault.breaks}.\n  here:    {' '.join(fault.new.split())}\n"
        f"  healthy: {' '.join(fault.old.split())}\nThese tests notice it:\n{told}"
    )


def survey() -> None:
    """Write the names of the faults that show a symptom at a learning rate of 3e-4."""

    def look(number: int) -> bool:
        with tempfile.TemporaryDirectory() as temporary:
            fault, folder = FAULTS[number], copy_project(Path(temporary) / "copy", {}, again=False)
            file = folder / fault.file
            file.write_text(put_in(fault, file.read_text(encoding="utf-8")), encoding="utf-8")
            seen = symptom(folder, healthy, finish(start(folder, "3e-4")))[1]
            print("seen  " if seen else "unseen", fault.name, flush=True)
            return seen

    healthy, numbers = finish(start(ROOT, "3e-4")), sorted(candidates(3, 0))
    with ThreadPoolExecutor(2) as pool:
        names = [FAULTS[number].name for number, seen in zip(numbers, pool.map(look, numbers)) if seen]
    VISIBLE_FILE.write_text(json.dumps(names, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    survey()
