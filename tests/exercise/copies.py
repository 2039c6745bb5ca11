"""Copies of the project to work in: a function's body is taken out, and the tests are run there."""

import ast
import io
import json
import re
import shutil
import tempfile
import textwrap
import tokenize
from pathlib import Path
from xml.etree import ElementTree

from tests.mutants import NOT_COPIED, TIME_LIMIT, run_tests

ROOT = Path(__file__).resolve().parents[2]
MARK = "exercise.json"  # a file at the top of a copy that says what it is
REPLACED = {  # files of a copy that would show the fault, or that work in the project only
    "tests/mutants.py": '"""The list of faults is left out of a copy."""\n',
    "tests/test_mutants.py": '"""Faults are tested in the project itself."""\n',
    "tests/test_exercise.py": '"""Exercises are made in the project itself."""\n',
    "tests/exercise/__main__.py": 'raise SystemExit("error: this is a copy; give the command in the project")\n',
}


def copy_project(folder: Path, mark: dict, again: bool) -> Path:
    """Copy the project to `folder` and put `mark` in it. With `again` a folder that is there already is renamed."""
    if folder.exists():
        if not again:
            raise FileExistsError(
                f"{folder} exists already; go on there, or begin again with --again, which renames it"
            )
        number = next(n for n in range(1, 10_000) if not folder.with_name(f"{folder.name}.{n}").exists())
        folder.rename(folder.with_name(f"{folder.name}.{number}"))
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
    for name, text in REPLACED.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / MARK).write_text(json.dumps(mark), encoding="utf-8")
    return folder


def find(source: str, name: str) -> ast.FunctionDef:
    """The function called `name`, such as `attention` or `Block.forward`, in `source`."""
    node = ast.parse(source)
    for part in name.split("."):
        node = next(child for child in node.body if getattr(child, "name", None) == part)
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


def outcomes(folder: Path, tests: list[str]) -> dict[str, str]:
    """Run `tests` (files or node ids below tests/) in `folder`: by test "" if it passed, else its error in one line."""
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary) / "report.xml"
        code, printed = run_tests(folder, " ".join(tests), f"--junitxml={report}")
        if code is None:
            raise ValueError(f"the tests have not ended after {TIME_LIMIT} s: is there an endless loop?")
        if code not in (0, 1):
            raise ValueError(f"the tests cannot be run: {' '.join(printed.split())[-300:]}")
        return read_report(report, tests)


def read_report(report: Path, tests: list[str]) -> dict[str, str]:
    """What `outcomes` returns, from the file that pytest's --junitxml has written."""
    cases, found = list(ElementTree.parse(report).iter("testcase")), {}
    for test in tests:
        file, _, name = test.removesuffix(".py").replace(".py::", "::").partition("::")
        mine = [
            case
            for case in cases
            if case.get("classname") == f"tests.{file.replace('/', '.')}"
            and (not name or name in (case.get("name"), case.get("name").partition("[")[0]))
        ]
        stops = [stop(fault) for case in mine for fault in case if fault.tag in ("failure", "error")]
        found[test] = stops[0] if stops else "" if mine else "no such test"
    return found


def stop(fault: ElementTree.Element) -> str:
    """The error of a test in one line, with the last place in the code under test that its traceback names."""
    places = re.findall(r"^((?!tests/(?!exercise/))[\w/]+\.py:\d+):", fault.text or "", re.MULTILINE)
    return " ".join([*fault.get("message", "").split(), *(f"(at {place})" for place in places[-1:])])
