"""Copies of the project to work in: a function's body is taken out. What is written there is graded in another copy."""

import ast
import io
import json
import re
import shutil
import textwrap
import tokenize
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.mutants import NOT_COPIED, TIME_LIMIT, run_tests

ROOT = Path(__file__).resolve().parents[2]
MARK = "exercise.json"  # in the copy of an exercise: how many hints were given, and whether all was right


class Stop(NamedTuple):
    """Why a test failed, and the last line of the student that its traceback names, "" if there is none."""

    error: str
    place: str


def copy_project(to: Path, again: bool, *without: Path) -> Path:
    """Copy the project to `to`, but not the files and folders `without`. With `again` what is there is renamed."""
    if to.exists():
        if not again:
            raise FileExistsError(f"{to} exists already; go on there, or begin again with --again, which renames it")
        number = next(n for n in range(1, 10_000) if not to.with_name(f"{to.name}.{n}").exists())
        to.rename(to.with_name(f"{to.name}.{number}"))
    never = shutil.ignore_patterns(*NOT_COPIED)
    return shutil.copytree(
        ROOT, to, ignore=lambda where, names: never(where, names) | {n for n in names if Path(where, n) in without}
    )


def find(source: str, name: str) -> ast.FunctionDef | None:
    """The function called `name`, such as `attention` or `Block.forward`, in `source`; None if it is not there."""
    node = ast.parse(source)
    for part in name.split("."):
        node = next((child for child in getattr(node, "body", []) if getattr(child, "name", None) == part), None)
    return node


def body_rows(function: ast.FunctionDef) -> tuple[int, int]:
    """The first and the last line of a function's body without its docstring."""
    above = function.body[0] if ast.get_docstring(function) is not None else function.returns
    return above.end_lineno + 1, function.end_lineno


def solution(source: str, name: str) -> str:
    """The lines of the function `name` in `source`."""
    function = find(source, name)
    return "\n".join(source.splitlines()[function.lineno - 1 : function.end_lineno])


def hollow(source: str, write: dict[str, str]) -> str:
    """Take the bodies of some functions out of `source`; signature, docstring and shape comments stay.

    Args:
        write: what to write, by the function's name; in place of the body an error says it.
    """
    lines = source.splitlines()
    for name, what in write.items():
        function = find("\n".join(lines), name)
        first, last = body_rows(function)
        indent = " " * function.body[0].col_offset
        shapes = [f"{indent}# {comment}" for comment in shape_comments(lines[first - 1 : last], function, first)]
        said = [
            json.dumps(line, ensure_ascii=False)
            for line in textwrap.wrap(f"write {name}: {what}", 90, drop_whitespace=False)
        ]
        error = ["raise NotImplementedError(", *(f"    {line}" for line in said), ")"]
        lines[first - 1 : last] = [*shapes, *(indent + line for line in error)]
    return "\n".join(lines) + "\n"


def shape_comments(lines: list[str], function: ast.FunctionDef, first: int) -> list[str]:
    """The comments of a body that give a shape, with the names of the variables: `scores: (B, H, T, T)`."""
    targets = {
        row: ", ".join(map(ast.unparse, node.targets)) + ": "
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for row in range(node.lineno, node.end_lineno + 1)
    }
    text = "\n".join(["if True:", *lines, ""])  # the body alone, under one more line
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = [(t.start[0] + first - 2, t.string.lstrip("# ")) for t in tokens if t.type == tokenize.COMMENT]
    return [targets.get(row, "") + comment for row, comment in comments if comment.startswith("(")]


def filled(source: str, exercise: dict) -> tuple[str, list[str]]:
    """`source` with the project's own lines for the functions of other exercises that are still hollow.

    Returns: the text, and for each of its lines its place in `source`, "" if the line is the project's.
    """
    own = (ROOT / exercise["file"]).read_text(encoding="utf-8")
    rows = [(f"{exercise['file']}:{i}: {row.strip()}", row) for i, row in enumerate(source.splitlines(), start=1)]
    functions = {name: function for name in exercise["elsewhere"] if (function := find(source, name))}
    for name, function in sorted(functions.items(), key=lambda item: -item[1].lineno):
        if any(isinstance(part, ast.Raise) and "NotImplementedError" in ast.unparse(part) for part in function.body):
            rows[function.lineno - 1 : function.end_lineno] = [("", row) for row in solution(own, name).splitlines()]
    return "\n".join(row for _, row in rows) + "\n", [place for place, _ in rows]


def used(source: str, exercise: dict) -> list[str]:
    """Which names of the exercise's `library` the functions to write contain."""
    nodes = [n for name in exercise["write"] if (function := find(source, name)) for n in ast.walk(function)]
    found = {getattr(node, field, None) for node in nodes for field in ("id", "attr", "name")}
    return [name for name in exercise.get("library", []) if name in found]


def grade(tree: Path, exercise: dict, source: str) -> dict[str, Stop | None]:
    """Run the tests of an exercise in `tree`, a copy of the project, with `source` as its file; None: passed."""
    compile(source, exercise["file"], "exec")
    file, report, tests = tree / exercise["file"], tree / "report.xml", [test for test, _, _ in exercise["checks"]]
    own, (text, places) = file.read_bytes(), filled(source, exercise)
    report.unlink(missing_ok=True)
    file.write_text(text, encoding="utf-8")
    code, printed = run_tests(tree, " ".join(tests), f"--junitxml={report}")
    file.write_bytes(own)
    if code is None:
        raise ValueError(f"the tests have not ended after {TIME_LIMIT} s: is there an endless loop?")
    if code not in (0, 1) or not report.exists():
        errors = re.findall("^E +(.*)", printed, re.MULTILINE) or [" ".join(printed.split())[-300:]]
        raise ValueError(f"the tests cannot be run: {errors[-1]}")
    return read_report(report, tests, exercise["file"], places)


def read_report(report: Path, tests: list[str], file: str, places: list[str]) -> dict[str, Stop | None]:
    """By test None if it passed, else why it did not, from what pytest's --junitxml has written."""
    cases, found = list(ElementTree.parse(report).iter("testcase")), {}
    for test in tests:
        module, _, name = test.removesuffix(".py").replace(".py::", "::").partition("::")
        mine = [
            case
            for case in cases
            if case.get("classname") == f"tests.{module.replace('/', '.')}"
            and (not name or name in (case.get("name"), case.get("name").partition("[")[0]))
        ]
        stops = [fault for case in mine for fault in case if fault.tag in ("failure", "error", "skipped")]
        found[test] = None if mine and not stops else Stop("the test was not run", "")
        for fault in stops[:1]:
            lines = re.findall(rf"^{re.escape(file)}:(\d+):", fault.text or "", re.MULTILINE)
            found[test] = Stop(" ".join(fault.get("message", "").split()), places[int(lines[-1]) - 1] if lines else "")
    return found
