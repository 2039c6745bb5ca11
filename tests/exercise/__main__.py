"""Exercises: write a piece of GPT-2 yourself, or find a fault in it.

python -m tests.exercise
"""

import json
import os
import sys
import textwrap
import tomllib
from pathlib import Path

from data.flags import Parser, whole_number
from tests.exercise import copies, fault
from tests.exercise.copies import MARK, ROOT

FOLDER = ROOT / "exercises"


def course() -> dict[str, dict]:
    """The exercises by their names, in the order of the course."""
    text = Path(__file__).with_name("course.toml").read_text(encoding="utf-8")
    return {exercise["name"]: exercise for exercise in tomllib.loads(text)["exercise"]}


def state(folder: Path) -> str:
    if not folder.is_dir():
        return ""
    return "right" if json.loads((folder / MARK).read_text(encoding="utf-8")).get("right") else "begun"


def listing() -> str:
    rows = [f"{name:<11}{state(FOLDER / name):<7}{e['title']}" for name, e in course().items()]
    rows += [f"{'fault':<11}{'':<7}find the fault: --level 1, 2 or 3, --seed N"]
    return "\n".join([*rows, "", "python -m tests.exercise attention   makes a copy to write in; --check, --solution"])


def shown(path: Path) -> str:
    return os.path.relpath(path)


def wrapped(label: str, text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 100, initial_indent=f"{label:<10}", subsequent_indent=" " * 10)


def begin(exercise: dict, folder: Path, again: bool) -> str:
    """Make the copy without the bodies; returns what the student is told."""
    copies.copy_project(folder, {"name": exercise["name"]}, again)
    file = folder / exercise["file"]
    source = copies.hollow(file.read_text(encoding="utf-8"), exercise["write"])
    file.write_text(source, encoding="utf-8")
    return "\n".join(
        [
            wrapped("before:", exercise["before"]),
            *(
                wrapped("write:", f"{name} in {shown(file)}:{copies.find(source, name).lineno}: {what}")
                for name, what in exercise["write"].items()
            ),
            f"{'then:':<10}python -m tests.exercise {exercise['name']} --check",
        ]
    )


def check(exercise: dict, folder: Path) -> tuple[str, bool]:
    """Run the tests of an exercise: a line for each idea with what to do next, and whether all of them are right."""
    if not folder.is_dir():
        raise ValueError(f"there is no {shown(folder)} yet; python -m tests.exercise {exercise['name']} makes it")
    try:
        compile((folder / exercise["file"]).read_text(encoding="utf-8"), exercise["file"], "exec")
    except SyntaxError as error:
        raise ValueError(f"{shown(folder / exercise['file'])}:{error.lineno} is not Python yet ({error.msg})") from None
    found = copies.outcomes(folder, [test for test, _, _ in exercise["checks"]])
    if all(stopped.startswith("NotImplementedError") for stopped in found.values()):
        return next(iter(found.values())).replace("NotImplementedError", "not written yet", 1), False
    lines = []
    for test, right, wrong in exercise["checks"]:
        if not found[test]:
            lines.append(f"right     {right}")
        elif found[test].startswith(("AssertionError", "assert ", "Failed", "NotImplementedError")):
            lines.append(f"not yet   {wrong}")
        else:  # another error, which says nothing of the idea
            lines.append(f"it stops  {found[test][:250]}")
    done = not any(found.values())
    (folder / MARK).write_text(json.dumps({"name": exercise["name"], "right": done}), encoding="utf-8")
    then = wrapped("after:", exercise["after"]) if done else wrapped("hint:", " ".join(exercise["hint"]))
    return "\n".join([*dict.fromkeys(lines), "", then]), done


def open_parser() -> Parser:
    parser = Parser(
        prog="python -m tests.exercise",
        description="Write a piece of GPT-2 yourself and have each of its ideas checked; or find a fault. Without a "
        "name: the list. You work in a copy of the project in exercises/; what you write there is never overwritten.",
    )
    parser.add_argument("name", nargs="?", help="an exercise of the list, or fault")
    parser.add_argument("--check", action="store_true", help="which ideas are right? Exits with 0 if all are, else 1")
    parser.add_argument("--solution", action="store_true", help="show the project's own code, or the fault")
    parser.add_argument("--again", action="store_true", help="begin again; the old copy is renamed")
    group = parser.add_argument_group("fault")
    group.add_argument(
        "--level",
        type=int,
        choices=(1, 2, 3),
        default=1,
        help="1: the file is named; 2: you see losses and ratios beside the healthy ones; 3: no hint (default: 1)",
    )
    group.add_argument("--seed", type=whole_number, default=0, metavar="N", help="which fault is drawn (default: 0)")
    group.add_argument("--answer", metavar="FILE:LINE", help="the fault's place, such as model/gpt2.py:47")
    return parser


def main() -> None:
    parser = open_parser()
    args = parser.parse_args()
    exercises, right = course(), True
    with parser.errors_in_one_line():
        if args.name is None:
            print(listing())
        elif args.name == "fault":
            folder = FOLDER / f"fault-{args.level}-{args.seed}"
            if args.check:
                raise ValueError("a fault has no --check; give an --answer, or run the tests in its folder")
            if args.answer:
                said, right = fault.answer(folder, args.answer)
                print(said)
            elif args.solution:
                print(fault.explanation(fault.drawn(folder)))
            else:
                print(fault.begin(folder, args.level, args.seed, args.again))
                again = f"python -m tests.exercise fault --level {args.level} --seed {args.seed}"
                print(f"Find it, then: {again} --answer FILE:LINE")
        elif args.name not in exercises:
            raise ValueError(f"there is no exercise {args.name!r}; there are {', '.join(exercises)} and fault")
        elif args.solution:
            source = (ROOT / exercises[args.name]["file"]).read_text(encoding="utf-8")
            print(*(copies.solution(source, name) for name in exercises[args.name]["write"]), sep="\n\n")
        elif args.check:
            said, right = check(exercises[args.name], FOLDER / args.name)
            print(said)
        else:
            print(begin(exercises[args.name], FOLDER / args.name, args.again))
    if not right:
        sys.exit(1)


if __name__ == "__main__":
    main()
