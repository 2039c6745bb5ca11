"""Find the fault: a copy of the project with one fault of `tests/mutants.py` in it, drawn by seed and level.

python -m tests.exercise.fault     # which faults show a symptom? Writes visible.json; a quarter of an hour
"""

import ast
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.exercise.copies import ROOT, copy_project
from tests.exercise.symptom import symptom
from tests.mutants import FAULTS, Fault, put_in

RIGHT = "Right"
VISIBLE_FILE = Path(__file__).with_name("visible.json")  # names of the faults with a symptom; the others are not drawn
REPLACED = {  # files of a copy that would show the fault, or that work in the project only
    "tests/exercise/__main__.py": 'raise SystemExit("error: this is a copy; give the command in the project")\n',
    "tests/exercise/visible.json": "[]\n",
    "tests/mutants.py": '"""The list of faults is left out of a copy."""\n',
    "tests/test_mutants.py": '"""Faults are tested in the project itself."""\n',
    "tests/test_exercise.py": '"""Exercises are made in the project itself."""\n',
}


def drawn(level: int, seed: int) -> Fault:
    """The fault that `seed` draws at a level."""
    visible = json.loads(VISIBLE_FILE.read_text(encoding="utf-8"))
    name = random.Random(f"{level} {seed}").choice(visible)
    return next(fault for fault in FAULTS if fault.name == name)


def copy_with(fault: Fault, folder: Path, again: bool = False) -> None:
    copy_project(folder, again, folder.parent)
    for name, text in REPLACED.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / fault.file).write_text(put_in(fault, (ROOT / fault.file).read_text(encoding="utf-8")), encoding="utf-8")


def begin(folder: Path, level: int, seed: int, again: bool) -> str:
    """Make the copy with a fault in it; returns what the student is told."""
    fault = drawn(level, seed)
    copy_with(fault, folder, again)
    told = {1: f"It is in {fault.file}, in {function_of(fault)}.", 2: "", 3: "There is no hint at this level."}[level]
    if level == 2:
        print("running the healthy and the faulty code: one to two minutes", flush=True)
        both = start(ROOT), start(folder)
        told, _ = symptom(folder, *map(finish, both))
    return (
        f"{os.path.relpath(folder)} is a copy of the project with one fault in it.\n{told}\n"
        f"Find it, then: python -m tests.exercise fault --level {level} --seed {seed} --answer FILE:LINE"
    )


def start(folder: Path, *lrs: str) -> subprocess.Popen:
    """Start `symptom.py` in `folder`, at its own learning rates or at `lrs`."""
    command = [sys.executable, "-m", "tests.exercise.symptom", *lrs]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)


def finish(process: subprocess.Popen) -> list[dict] | None:
    """What `symptom.py` printed; None where it stopped with an error, which already names the place of the fault."""
    printed, _ = process.communicate()
    return json.loads(printed) if process.returncode == 0 else None


def run(args: Namespace, folder: Path) -> bool:
    """Do what the flags say; returns whether the answer, if there is one, is right."""
    fault, folder = drawn(args.level, args.seed), folder / f"fault-{args.level}-{args.seed}"
    if args.check or args.hint:
        raise ValueError("a fault has no --check and no --hint; give an --answer, or run the tests in its folder")
    if args.answer:
        name, _, line = args.answer.rpartition(":")
        if not (ROOT / name).is_file() or not line.isdecimal():
            raise ValueError(f"{args.answer!r} is not a file and a line, such as model/gpt2.py:47")
        said = verdict(fault, args.answer)
        print(f"{said}.", explanation(fault) if said == RIGHT else "--solution shows the place.", sep="\n")
        return said == RIGHT
    if args.answers:
        print(answers(args.answers))
    elif args.solution:
        print(explanation(fault))
    else:
        print(begin(folder, args.level, args.seed, args.again))
    return True


def verdict(fault: Fault, answer: str) -> str:
    """Is the fault at `answer`, such as model/gpt2.py:47? The line is that of the copy as it was made."""
    name, _, line = answer.rpartition(":")
    if Path(name).as_posix() != fault.file:
        return "No"
    return RIGHT if int(line) in rows_of(fault) else "Right file, other line"


def answers(file: Path) -> str:
    """The verdicts on the answers of a class, of which each line has NAME LEVEL SEED FILE:LINE; # begins a comment."""
    rows = []
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not (text := text.partition("#")[0].strip()):
            continue
        if not (found := re.fullmatch(r"(\S+)\s+([1-3])\s+(\d+)\s+(\S+:\d+)", text, re.ASCII)):
            raise ValueError(f"{file}, line {number}: {text!r} is not NAME LEVEL SEED FILE:LINE")
        name, level, seed, answer = found.groups()
        rows.append((name, verdict(drawn(int(level), int(seed)), answer)))
    lines = [f"{name:<20} {said.lower()}" for name, said in rows]
    return "\n".join([*lines, f"{sum(said == RIGHT for _, said in rows)} of {len(rows)} right"])


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


def function_of(fault: Fault) -> str:
    """The function with the fault in it, such as `Block.forward`; "" outside of all."""
    source, line = (ROOT / fault.file).read_text(encoding="utf-8"), rows_of(fault)[0]
    around = [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.ClassDef, ast.FunctionDef))]
    return ".".join(node.name for node in around if node.lineno <= line <= node.end_lineno)


def explanation(fault: Fault) -> str:
    told = "\n".join(f"  python -m pytest tests/{test}" for test in fault.tests.split())
    return (
        f"{fault.file}:{rows_of(fault)[0]}: {fault.breaks}.\n  here:    {' '.join(fault.new.split())}\n"
        f"  healthy: {' '.join(fault.old.split())}\nThese tests notice it:\n{told}"
    )


def survey() -> None:
    """Write the names of the faults that show a symptom at a learning rate of 3e-4, in the files that README names."""

    def look(fault: Fault) -> bool:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "copy"
            copy_with(fault, folder)
            seen = symptom(folder, healthy, finish(start(folder, "3e-4")))[1]
            print("seen  " if seen else "unseen", fault.name, flush=True)
            return seen

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    healthy, faults = finish(start(ROOT, "3e-4")), [fault for fault in FAULTS if f"`{fault.file}`" in readme]
    with ThreadPoolExecutor(2) as pool:
        names = [fault.name for fault, seen in zip(faults, pool.map(look, faults)) if seen]
    VISIBLE_FILE.write_text(json.dumps(names, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    survey()
