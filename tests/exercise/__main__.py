"""Exercises: write a piece of GPT-2 yourself, or find a fault in it.

python -m tests.exercise
"""

import hashlib
import json
import os
import sys
import tempfile
import textwrap
import tomllib
from contextlib import suppress
from pathlib import Path

from data.flags import Parser, path, whole_number
from tests.exercise import copies, fault, predict
from tests.exercise.copies import MARK, ROOT, Stop

FOLDER = ROOT / "exercises"
OTHERS = (["fault"], ["predict"])


def course() -> dict[str, dict]:
    """The exercises by their names, in the order of the course; `elsewhere` are the file's functions of others."""
    text = Path(__file__).with_name("course.toml").read_text(encoding="utf-8")
    exercises = {exercise["name"]: exercise for exercise in tomllib.loads(text)["exercise"]}
    for mine in exercises.values():
        mine["elsewhere"] = {
            function: f"not here, but in the exercise {other['name']}"
            for other in exercises.values()
            for function in other["write"]
            if other["file"] == mine["file"] and function not in mine["write"]
        }
    return exercises


def mark(folder: Path, **changes) -> dict:
    """What is noted in a copy, after `changes`: how many hints were given, and whether all was right."""
    noted = {"hints": 0, "right": False}
    with suppress(OSError, ValueError):  # a student's file
        noted |= json.loads((folder / MARK).read_text(encoding="utf-8"))
    if changes:
        (folder / MARK).write_text(json.dumps(noted | changes), encoding="utf-8")
    return noted | changes


def listing(folder: Path) -> str:
    rows = [f"{'predict':<18}twelve questions: what comes out?"]
    rows += [f"{'fault':<18}find the fault: --level 1, 2 or 3, --seed N", ""]
    rows += ["python -m tests.exercise attention   makes a copy to write in; --check, --hint, --solution"]
    for name, exercise in reversed(course().items()):
        state = "right" if mark(folder / name)["right"] else "begun" if (folder / name).is_dir() else ""
        rows.insert(0, f"{name:<11}{state:<7}{exercise['title']}")
    return "\n".join(rows)


def wrapped(label: str, text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 100, initial_indent=f"{label:<10}", subsequent_indent=" " * 10)


def begin(exercise: dict, folder: Path, again: bool) -> str:
    """Make the copy, without the tests and without the bodies; returns what the student is told."""
    copies.copy_project(folder, again, ROOT / "tests", folder.parent)
    file, own = folder / exercise["file"], (ROOT / exercise["file"]).read_text(encoding="utf-8")
    source = copies.hollow(own, exercise["write"] | exercise["elsewhere"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source, encoding="utf-8")
    mark(folder, hints=0)
    writes = [
        wrapped("write:", f"{name} in {os.path.relpath(file)}:{copies.find(source, name).lineno}: {what}")
        for name, what in exercise["write"].items()
    ]
    then = f"{'then:':<10}python -m tests.exercise {exercise['name']} --check"
    return "\n".join([wrapped("before:", exercise["before"]), *writes, then])


def hint(exercise: dict, folder: Path) -> str:
    """The next step of the hint."""
    if not folder.is_dir():
        raise ValueError(
            f"there is no {os.path.relpath(folder)} yet; python -m tests.exercise {exercise['name']} makes it"
        )
    steps, given = exercise["hint"], mark(folder)["hints"]
    if given >= len(steps):
        return f"All hints have been given. python -m tests.exercise {exercise['name']} --solution shows the code."
    mark(folder, hints=given + 1)
    return wrapped(f"hint {given + 1}/{len(steps)}:", steps[given])


def check(exercise: dict, folder: Path, tree: Path) -> tuple[dict, list[str]]:
    """Grade an exercise by the tests in `tree`, a copy of the project; returns its entry in the report, and lines."""
    file, found, lines = folder / exercise["file"], {}, []
    try:
        source = file.read_text(encoding="utf-8")
        found = copies.grade(tree, exercise, source)
        says, lines = in_words(exercise, found)
    except FileNotFoundError:
        says = f"not begun: python -m tests.exercise {exercise['name']} makes a copy"
        return {"right": False, "says": says, "ideas": {}, "hints": 0, "sha256": None}, [says]
    except SyntaxError as error:
        says = f"{os.path.relpath(file)}:{error.lineno} is not Python yet ({error.msg})"
    except (ValueError, OSError) as error:
        says = str(error)
    ideas = {idea: bool(found) and not found[test] for test, idea, _ in exercise["checks"]}
    if found and (library := copies.used(source, exercise)):
        lines += [f"note      PyTorch's own {', '.join(library)} is used; to write it out is the exercise"]
        says += f" ({lines[-1].removeprefix('note').strip()})"
    if right := all(ideas.values()):
        text, places = copies.filled(source, exercise)
        if "" in places:
            file.write_text(text, encoding="utf-8")
            lines += ["The other functions of the file are back: python -m train.sweep demo runs in the copy."]
        lines += ["", wrapped("after:", exercise["after"])]
    elif found:
        lines += ["", f"python -m tests.exercise {exercise['name']} --hint gives a hint"]
    hints, digest = mark(folder, right=right)["hints"], hashlib.sha256(file.read_bytes()).hexdigest()
    return {"right": right, "says": says, "ideas": ideas, "hints": hints, "sha256": digest}, lines or [says]


def in_words(exercise: dict, found: dict[str, Stop | None]) -> tuple[str, list[str]]:
    """What was found, in a few words; and a line for each idea, of which the first wrong one is explained."""
    stops = [stop for stop in found.values() if stop]
    empty = [stop for stop in stops if stop.error.startswith("NotImplementedError")]
    if len(stops) == len(found) and empty:
        said = empty[0].error.removeprefix("NotImplementedError: ")
        return "not written yet", [f"not written yet: {said}", f"{'':10}{empty[0].place}"]
    lines, stopped, first = [], False, None
    for test, idea, wrong in exercise["checks"]:
        if not (stop := found[test]):
            lines.append(f"right     {idea}")
        elif stop.error.startswith(("AssertionError", "assert ", "Failed", "NotImplementedError")):
            lines += [f"not yet   {idea}", *([] if first else [wrapped("", wrong)])]
        else:  # another error, which says nothing of the idea
            lines += [f"it stops  {idea}: {stop.error[:200]}", *([] if stopped else [f"{'':10}{stop.place}"])]
            stopped = True
        first = first or (idea if stop else None)
    return f"{len(found) - len(stops)} of {len(found)}: {first}" if first else "right", lines


def check_all(names: list[str], folder: Path) -> dict:
    """Check the exercises `names`, or all that were begun, and print the results; returns the report."""
    exercises, entries = course(), {}
    begun = names or [name for name in exercises if (folder / name).is_dir()]
    if not begun:
        raise ValueError(f"no exercise was begun in {os.path.relpath(folder)}; python -m tests.exercise lists them")
    with tempfile.TemporaryDirectory(prefix="exercise-") as temporary:
        tree = copies.copy_project(Path(temporary) / "project", False, folder)
        for name in begun:
            entries[name], lines = check(exercises[name], folder / name, tree)
            print("\n".join(lines) if len(names) == 1 else f"{name:<11}{entries[name]['says']}", flush=True)
    right, of = sum(entry["right"] for entry in entries.values()), len(names or exercises)
    if len(names) != 1:
        print(f"{right} of {of} right")
    return {"right": right, "of": of, "exercises": entries}


def open_parser() -> Parser:
    parser = Parser(
        prog="python -m tests.exercise",
        description="Write a piece of GPT-2 yourself and have each of its ideas checked; or find a fault. Without a "
        "name: the list. You work in a copy of the project in exercises/; what you write there is never overwritten.",
    )
    parser.add_argument("names", nargs="*", metavar="name", help="of the list")
    parser.add_argument("--check", action="store_true", help="what is right? Without names: all. Exits with 0 or 1")
    parser.add_argument("--report", type=path, metavar="FILE", help="with --check: write the results to FILE as JSON")
    parser.add_argument("--hint", action="store_true", help="the next hint")
    parser.add_argument("--solution", action="store_true", help="show the project's own code, or the fault")
    parser.add_argument("--again", action="store_true", help="begin again; the old copy is renamed")
    parser.add_argument("--folder", type=path, default=FOLDER, help="of the copies (default: exercises in the project)")
    group = parser.add_argument_group("fault")
    said = "you are told 1: file and function; 2: losses and ratios beside the healthy ones; 3: nothing (default: 1)"
    group.add_argument("--level", type=int, choices=(1, 2, 3), default=1, help=said)
    group.add_argument("--seed", type=whole_number, default=0, metavar="N", help="which fault is drawn (default: 0)")
    group.add_argument("--answer", metavar="FILE:LINE", help="the fault's place, such as model/gpt2.py:47")
    group.add_argument("--answers", type=path, metavar="FILE", help="of a class: lines of NAME LEVEL SEED FILE:LINE")
    return parser


def main() -> None:
    parser = open_parser()
    args = parser.parse_args()
    exercises, right, folder = course(), True, args.folder.resolve()
    with parser.errors_in_one_line():
        if unknown := [name for name in args.names if name not in exercises and args.names not in OTHERS]:
            raise ValueError(
                f"there is no exercise {unknown[0]!r}; there are {', '.join(exercises)}, predict and fault"
            )
        if args.names == ["fault"]:
            right = fault.run(args, folder)
        elif args.names == ["predict"]:
            predict.main()
        elif args.check:
            report = check_all(args.names, folder)
            right = report["right"] == report["of"]
            if args.report:
                args.report.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        elif len(args.names) > 1 or args.report:
            raise ValueError("several names and --report need --check")
        elif not args.names:
            print(listing(folder))
        else:
            exercise = exercises[args.names[0]]
            if args.solution:
                source = (ROOT / exercise["file"]).read_text(encoding="utf-8")
                print(f"The project's own code in {exercise['file']}:")
                print(*(copies.solution(source, name) for name in exercise["write"]), sep="\n\n")
            elif args.hint:
                print(hint(exercise, folder / exercise["name"]))
            else:
                print(begin(exercise, folder / exercise["name"], args.again))
    if not right:
        sys.exit(1)


if __name__ == "__main__":
    main()
