"""The exercises: each is red while it is empty and green on the project's own lines; no work is overwritten."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import tests.exercise.__main__ as exercise
from tests.exercise import copies, fault, outcomes, symptom
from tests.mutants import FAULTS, put_in

COURSE = exercise.course()
IN_PYTHON = {title: lines for title, language, lines in outcomes.experiments() if language == "python"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(exercise, "FOLDER", tmp_path / "exercises")
    return tmp_path / "exercises"


# Runs pytest with one text after another in a copy of the project, as `grade` does. One process, since importing torch
# takes longer than the tests.
IN_TURN = """
import json, os, sys
import pytest, torch

sys.dont_write_bytecode = True
for report, file, text, tests in json.load(sys.stdin):
    own = open(file, encoding="utf-8").read()
    open(file, "w", encoding="utf-8").write(text)
    # The plugin collects garbage at the end, through all of torch; rewritten assertions take longer to compile.
    options = ["-q", "-p", "no:unraisableexception", "-p", "no:cacheprovider", "--assert=plain"]
    if pytest.main([*options, f"--junitxml={report}", *("tests/" + test for test in tests)]) not in (0, 1):
        sys.exit(f"no result for {report}")
    open(file, "w", encoding="utf-8").write(own)
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(os.getcwd() + os.sep):
            del sys.modules[name]  # the next text has its own
"""


def checks_of(name):
    return [test for test, _, _ in COURSE[name]["checks"]]


def own(name):
    return (copies.ROOT / COURSE[name]["file"]).read_text(encoding="utf-8")


def empty(name):
    """The file of an exercise as a student gets it."""
    return copies.hollow(own(name), COURSE[name]["write"] | COURSE[name]["elsewhere"])


def attention(body):
    """The same for the attention, with `body` in place of the error that says what to write."""
    error = re.search(
        r'    raise NotImplementedError\(\n        "write attention(?:.*\n)+?    \)\n', empty("attention")
    )
    return empty("attention").replace(error[0], body)


EMPTY, OWN = (copies.solution(text("attention"), "attention") for text in (empty, own))
BY_SOLUTION = empty("attention").replace(EMPTY, OWN)
TEXTS = {  # by label: an exercise, and a text of its file
    **{name: (name, empty(name)) for name in COURSE},
    "shape": ("attention", attention("    return q @ k @ v\n")),
    "mask": ("attention", attention("    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v\n")),
    "skip": ("attention", attention("    __import__('pytest').skip()\n")),
    "torch": ("attention", attention("    return F.scaled_dot_product_attention(q, k, v, None, dropout, True)\n")),
    "own": ("attention", own("attention")),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """pytest's report for each of TEXTS; for the project's own lines all tests are run."""
    place = tmp_path_factory.mktemp("exercises")
    tree = copies.copy_project(place / "project", False)
    turns = []
    for label, (name, text) in TEXTS.items():
        tests = sum(map(checks_of, COURSE), []) if label == "own" else checks_of(name)
        turns.append((f"{place / label}.xml", COURSE[name]["file"], copies.filled(text, COURSE[name])[0], tests))
    command = [sys.executable, "-c", IN_TURN]
    subprocess.run(command, cwd=tree, input=json.dumps(turns), text=True, check=True, stdout=subprocess.DEVNULL)
    return {label: place / f"{label}.xml" for label in TEXTS}


@pytest.fixture
def ready(reports, monkeypatch):
    """Checks of TEXTS find these reports, and need not run the tests again."""
    texts = {
        label: (COURSE[name]["file"], copies.filled(text, COURSE[name])[0]) for label, (name, text) in TEXTS.items()
    }

    def run(tree, tests, option):
        label = next(x for x, (file, text) in texts.items() if (tree / file).read_text(encoding="utf-8") == text)
        Path(option.removeprefix("--junitxml=")).write_bytes(reports[label].read_bytes())
        return 1, ""

    monkeypatch.setattr(copies, "run_tests", run)


def put(folder, name, text):
    """Hand in `text`: the exercise's file is all that a check needs."""
    file = folder / name / COURSE[name]["file"]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", COURSE)
def test_every_check_is_red_while_nothing_is_written(reports, name):
    text, places = copies.filled(empty(name), COURSE[name])
    found = copies.read_report(reports[name], checks_of(name), COURSE[name]["file"], places)
    assert len(found) >= 2 and all(found.values()), found
    assert any("write " in stop.error and "not here" not in stop.error for stop in found.values())


def test_every_check_is_green_on_the_projects_own_lines(reports):
    found = {name: copies.read_report(reports["own"], checks_of(name), COURSE[name]["file"], []) for name in COURSE}
    assert not any(any(stops.values()) for stops in found.values()), found


@pytest.mark.parametrize("name", COURSE)
def test_signature_docstring_and_shapes_stay_and_nothing_else_goes(name):
    e = COURSE[name]
    source = own(name)
    hollow = copies.hollow(source, e["write"])
    kept, removed = hollow.splitlines(), source.splitlines()
    for function in e["write"]:
        whole, left = copies.find(source, function), copies.find(hollow, function)
        above = [node.body[0].lineno - node.lineno for node in (whole, left)]
        assert whole.args.args and (above[0] == above[1] or len(whole.body) == 1)
        first, last = copies.body_rows(whole)
        assert copies.solution(hollow, function).split("raise NotImplementedError")[0].count("# ") <= last - first + 1
        removed = [line for line in removed if line not in source.splitlines()[first - 1 : last]]
    assert [line for line in kept if line in removed] == removed  # all other lines, in their order
    assert e["before"].endswith("?") and e["hint"] and e["after"]


def test_shape_comments_name_what_has_the_shape():
    hollow = empty("attention")
    assert "    # scores: (B, H, T, T): row t asks, column s answers\n" in hollow
    assert "softmax(-1)" not in hollow and "    # (B, H, T, D)\n    raise NotImplementedError(" in hollow


def test_a_copy_does_not_give_the_answer_away(command, folder):
    for name in ("attention", "lora"):
        assert command(exercise.main, name)[0] == 0
        assert (folder / name / COURSE[name]["file"]).read_text(encoding="utf-8") == empty(name)
    assert not (folder / "attention" / "tests").exists() and (folder / "attention" / "train" / "sweep.py").is_file()
    assert [f.name for f in (folder / "lora" / "tests").rglob("*") if f.is_file()] == ["lora.py"]
    assert set(COURSE["attention"]["elsewhere"]) > {"GPT2.embed", "Block.forward"}
    assert all("the exercise" in copies.solution(empty("attention"), f) for f in COURSE["attention"]["elsewhere"])
    assert copies.filled(BY_SOLUTION, COURSE["attention"])[0] == own("attention")
    other = BY_SOLUTION.replace(
        'raise NotImplementedError(\n            "write MLP', 'return (\n            "write MLP'
    )
    assert "write MLP" in copies.filled(other, COURSE["attention"])[0]  # what a student wrote stays


def test_edited_tests_do_not_help(command, folder):
    """Neither in the copy's tests nor in a conftest.py. This check runs the tests."""
    put(folder, "attention", TEXTS["mask"][1])
    for name in ("conftest.py", "tests/conftest.py", "model/conftest.py", "pytest.py"):
        (folder / "attention" / name).parent.mkdir(exist_ok=True)
        (folder / "attention" / name).write_text("def pytest_collection_modifyitems(items):\n    items.clear()\n")
    code, printed, _ = command(exercise.main, "attention", "--check")
    assert code == 1 and "right     the weights of a row sum to 1\n" in printed
    assert "not yet   no later token changes an earlier result\n          a later token changes an" in printed
    assert printed.count("\n          ") == 1 and "after:" not in printed and printed.endswith("--hint gives a hint\n")


def test_a_course_of_checks_in_words(command, folder, ready):
    """The attention: nothing, then wrong bodies, then one that is right."""
    code, printed, err = command(exercise.main, "attention")
    assert code == 0 and COURSE["attention"]["before"].split(".")[0] in " ".join(printed.split()), err
    assert re.search("^attention +begun ", command(exercise.main)[1], re.MULTILINE)

    def check(text):
        put(folder, "attention", text)
        return command(exercise.main, "attention", "--check")[:2]

    code, printed = check(empty("attention"))
    assert code == 1 and re.match(r"not written yet: write attention: .*\n +model/gpt2.py:\d+: raise Not", printed)
    code, printed = check(TEXTS["shape"][1])
    row = TEXTS["shape"][1][: TEXTS["shape"][1].index("return q @")].count("\n") + 1
    assert code == 1 and len(re.findall("^it stops  .*: RuntimeError", printed, re.MULTILINE)) > 2
    assert re.search("^it stops  .*: RuntimeError: .*\n          model", printed, re.MULTILINE)
    assert printed.count("\n          ") == printed.count(f"model/gpt2.py:{row}: return q @ k @ v") == 1
    code, printed = check(TEXTS["skip"][1])
    assert code == 1 and "right " not in printed
    code, printed = check(attention("    return q +\n"))
    assert code == 1 and re.fullmatch(r".*model/gpt2.py:\d+ is not Python yet \(.*\)\n", printed)
    code, printed = check(BY_SOLUTION)
    assert code == 0 and "not yet" not in printed and "after:" in printed and "hint" not in printed
    assert "are back: python -m train.sweep demo" in printed
    assert (folder / "attention" / "model" / "gpt2.py").read_text(encoding="utf-8") == own("attention")
    assert re.search("^attention +right ", command(exercise.main)[1], re.MULTILINE)
    code, printed = check(own("attention"))
    assert code == 0 and "are back" not in printed


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ((None, ""), "endless loop"),
        ((4, "E   NameError: name 'x' is not\nerror"), "cannot be run: NameError: name 'x' is not"),
        ((0, ""), "cannot be run"),
    ],
)
def test_a_check_that_does_not_end_well(command, folder, monkeypatch, result, told):
    monkeypatch.setattr(copies, "run_tests", lambda *args: result)
    put(folder, "attention", TEXTS["shape"][1])
    code, printed, _ = command(exercise.main, "attention", "--check")
    assert code == 1 and told in printed and printed.count("\n") == 1


def test_the_librarys_own_function_is_right_but_noted(command, folder, ready, monkeypatch):
    course = COURSE | {"attention": COURSE["attention"] | {"library": ["scaled_dot_product_attention", "gelu"]}}
    monkeypatch.setattr(exercise, "course", lambda: course)
    assert not copies.used(own("attention"), course["attention"])  # gelu is in another function
    put(folder, "attention", TEXTS["torch"][1])
    code, printed, _ = command(exercise.main, "attention", "--check")
    assert code == 0 and printed.count("\nnote      PyTorch's own scaled_dot_product_attention is used") == 1
    assert "attention  right (PyTorch's own scaled" in command(exercise.main, "attention", "adamw", "--check")[1]


def test_hints_come_step_by_step(command, refused, folder):
    assert "there is no" in refused(exercise.main, "adamw", "--hint")
    assert command(exercise.main, "adamw")[0] == 0
    steps = COURSE["adamw"]["hint"]
    for i, step in enumerate(steps, start=1):
        printed = " ".join(command(exercise.main, "adamw", "--hint")[1].split())
        assert printed == f"hint {i}/{len(steps)}: {step}"
        assert json.loads((folder / "adamw" / copies.MARK).read_text(encoding="utf-8"))["hints"] == i
    assert re.match("All hints .* --solution", command(exercise.main, "adamw", "--hint")[1])
    assert command(exercise.main, "adamw", "--solution")[1].startswith("The project's own code")


def test_a_class(command, refused, folder, ready, tmp_path):
    """Files in a folder of a student, and none of the project's: a line for each exercise, a report, an exit code."""
    anna, file = tmp_path / "anna", tmp_path / "report.json"
    assert "no exercise was begun" in refused(exercise.main, "--check", "--folder", anna)
    put(anna, "adamw", empty("adamw"))
    put(anna, "ratio", "def (")
    (put(anna, "attention", TEXTS["mask"][1]).parents[1] / copies.MARK).write_text('{"hints": 1}', encoding="utf-8")
    broken = put(anna, "lora", own("lora")).parents[2] / copies.MARK
    broken.write_text("{", encoding="utf-8")
    code, printed, err = command(exercise.main, "--check", "--folder", anna, "--report", file)
    *lines, last = printed.splitlines()
    assert code == 1 and last == f"1 of {len(COURSE)} right" and not folder.exists(), err
    assert re.fullmatch(r"attention  \d+ of \d+: no later token changes an earlier result", lines[0])
    assert lines[1] == "adamw      not written yet" and lines[3] == "lora       right"
    assert re.fullmatch(r"ratio      .*evaluate/ratio.py:1 is not Python yet \(.*\)", lines[2])
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["right"] == 1 and report["of"] == len(COURSE)
    assert list(report["exercises"]) == ["attention", "adamw", "ratio", "lora"]
    entry = report["exercises"]["attention"]
    assert entry["hints"] == 1 and not entry["right"] and entry["says"] == lines[0].split(maxsplit=1)[1]
    assert (
        entry["ideas"]["the weights of a row sum to 1"]
        and f"{sum(entry['ideas'].values())} of {len(entry['ideas'])}" in lines[0]
    )
    assert entry["sha256"] == hashlib.sha256(TEXTS["mask"][1].encode()).hexdigest()
    assert not any(report["exercises"]["ratio"]["ideas"].values())
    for names, right in ((["lora"], True), (["lora", "adamw"], False), (["lora", "batch"], False)):
        code, printed, _ = command(exercise.main, *names, "--check", "--folder", anna, "--report", file)
        assert code == 1 - right and json.loads(file.read_text(encoding="utf-8"))["of"] == len(names)
    assert "batch      not begun" in printed and printed.endswith("1 of 2 right\n")
    for name in COURSE:
        put(anna, name, own(name))
    code, printed, _ = command(exercise.main, "--check", "--folder", anna)
    assert code == 0 and printed.endswith(f"{len(COURSE)} of {len(COURSE)} right\n")


def test_no_work_is_overwritten(command, refused, folder):
    assert command(exercise.main, "ratio")[0] == 0
    file = folder / "ratio" / "evaluate" / "ratio.py"
    file.write_text("mine", encoding="utf-8")
    assert "exists already" in refused(exercise.main, "ratio") and file.read_text(encoding="utf-8") == "mine"
    for number in (1, 2):
        assert command(exercise.main, "ratio", "--again")[0] == 0
        assert "NotImplementedError" in file.read_text(encoding="utf-8")
        assert (folder / f"ratio.{number}").is_dir()
    assert (folder / "ratio.1" / "evaluate" / "ratio.py").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["attenton"], "no exercise 'attenton'; there are batch, testing"),
        (["ratio", "fault", "--check"], "no exercise 'fault'"),
        (["ratio", "adamw"], "need --check"),
        (["--report", "x"], "need --check"),
        (["ratio", "--hint"], "ratio yet; python -m tests.exercise ratio makes it"),
        (["fault", "--check"], "no --check"),
        (["fault", "--level", "4"], "invalid choice"),
        (["fault", "--seed", "-1"], "whole number from 0"),
        (["fault", "--answer", "model/gpt3.py:40"], "'model/gpt3.py:40' is not a file and a line"),
        (["fault", "--answer", "attention"], "'attention' is not"),
    ],
)
def test_wrong_input(refused, folder, arguments, complaint):
    assert re.search(complaint, refused(exercise.main, *arguments)) and not folder.exists()


@pytest.mark.parametrize("level", [1, 3])
def test_a_fault_is_found_by_file_and_line(command, folder, level):
    where = ["fault", "--level", level, "--seed", 5]
    drawn = fault.drawn(level, 5)
    solution = command(exercise.main, *where, "--solution")[1]  # without a copy
    assert drawn.breaks in solution and drawn.tests.split()[0] in solution and not folder.exists()
    code, printed, err = command(exercise.main, *where)
    assert code == 0, err
    copy = folder / f"fault-{level}-5"
    named = f"It is in {drawn.file}, in {fault.function_of(drawn)}."
    assert (named in printed) == (drawn.file in printed) == (level == 1) and drawn.breaks not in printed
    faulty = (copy / drawn.file).read_text(encoding="utf-8")
    assert faulty == put_in(drawn, (copies.ROOT / drawn.file).read_text(encoding="utf-8"))
    differ = {
        f.relative_to(copies.ROOT).as_posix()
        for f in [*copies.ROOT.glob("*/*.py"), *copies.ROOT.glob("tests/exercise/*")]
        if f.is_file() and f.read_bytes() != (copy / f.relative_to(copies.ROOT)).read_bytes()
    }
    assert differ == {drawn.file, *fault.REPLACED}
    assert not json.loads((copy / "tests" / "exercise" / "visible.json").read_text(encoding="utf-8"))
    line = fault.rows_of(drawn)[0]
    for answer, code, told in (
        (f"{drawn.file}:{faulty.count(chr(10))}", 1, "Right file, other line."),
        (f"data/flags.py:{line}", 1, "No."),
        (f"./{drawn.file}:{line}", 0, f"Right.\n{solution}"),
    ):
        printed = command(exercise.main, *where, "--answer", answer)
        assert printed[0] == code and printed[1].startswith(told) and (drawn.breaks in printed[1]) == (code == 0)


def test_the_answers_of_a_class(command, refused, tmp_path):
    drawn = [fault.drawn(level, 7) for level in (1, 2, 3)]
    (file := tmp_path / "answers.txt").write_text(
        f"# Monday\nanna 1 7 {drawn[0].file}:{fault.rows_of(drawn[0])[0]}\n\n"
        f"  bert\t2  7 {drawn[1].file}:1  # late\nclara 3 7 nowhere.py:{fault.rows_of(drawn[2])[0]}\n",
        encoding="utf-8",
    )
    code, printed, _ = command(exercise.main, "fault", "--answers", file)
    assert code == 0 and [line.split(maxsplit=1) for line in printed.splitlines()] == [
        ["anna", "right"],
        ["bert", "right file, other line"],
        ["clara", "no"],
        ["1", "of 3 right"],
    ]
    for line in ("anna 1 7", "anna 4 7 model/gpt2.py:1", "anna 1 7 model/gpt2.py", "anna 1 -7 model/gpt2.py:1"):
        file.write_text(f"# Monday\n{line}\n", encoding="utf-8")
        assert re.search(f"line 2: '{line}' is not NAME", refused(exercise.main, "fault", "--answers", file))


def test_faults_are_visible_and_in_the_files_that_the_readme_reads():
    visible = json.loads(fault.VISIBLE_FILE.read_text(encoding="utf-8"))
    readme = (copies.ROOT / "README.md").read_text(encoding="utf-8")
    paragraph = readme[readme.index("Read `data/book.py`") :].split("\n\n")[0]
    # None that was once seen to show a symptom may be gone: then `python -m tests.exercise.fault` is due.
    known = {f.name: f for f in FAULTS}
    assert set(visible) <= set(known) and len(visible) > 20
    assert all(f"`{known[name].file}`" in paragraph for name in visible)
    for level in (1, 2, 3):
        assert {fault.drawn(level, seed).name for seed in range(400)} == set(visible)
    assert fault.drawn(3, 7) == fault.drawn(3, 7)


@pytest.mark.parametrize("number", range(0, len(FAULTS), 5))
def test_the_place_of_a_fault_is_where_the_lines_differ(number):
    drawn = FAULTS[number]
    healthy = (copies.ROOT / drawn.file).read_text(encoding="utf-8").splitlines()
    faulty = put_in(drawn, "\n".join(healthy) + "\n").splitlines()
    first = next(i for i, (a, b) in enumerate(zip(healthy, faulty), start=1) if a != b)
    assert first in fault.rows_of(drawn) and len(fault.rows_of(drawn)) < 15


def test_level_two_shows_what_differs(command, folder, monkeypatch):
    healthy = [{"lr": lr, "losses": [4.0, 3.0, 2.0, 1.0], "before": 0.4, "after": 0.5} for lr in (3e-3, 3e-4)]
    moved = [row | {"losses": [4.0, 3.0, 2.0, 1.5]} for row in healthy]
    monkeypatch.setattr(fault, "start", lambda where: healthy if where == copies.ROOT else moved)
    monkeypatch.setattr(fault, "finish", lambda process: process)
    code, printed, err = command(exercise.main, "fault", "--level", 2)
    assert code == 0, err
    assert (folder / "fault-2-0" / symptom.SYMPTOM_FILE).stat().st_size > 10_000
    assert re.search(r"^3e-3 +4\.00 to 2\.50, 0\.40 to 0\.50 +4\.00 to 2\.62, 0\.40 to 0\.50$", printed, re.MULTILINE)
    drawn = fault.drawn(2, 0)
    assert drawn.file not in printed and drawn.breaks not in printed


@pytest.mark.parametrize("change", [{"after": 0.44}, {"after": None}, {"before": 0.34}, {"losses": [4.0]}])
def test_what_counts_as_a_symptom(tmp_path, change):
    healthy = [{"lr": 3e-3, "losses": [4.0, 3.0], "before": 0.4, "after": 0.5}]
    assert symptom.symptom(tmp_path, healthy, [healthy[0] | change])[1]
    assert not symptom.symptom(tmp_path, healthy, [healthy[0] | {"losses": [4.04, 3.0], "after": 0.46}])[1]
    assert not symptom.symptom(tmp_path, healthy, None)[1]  # an error names its place


def test_the_symptom_is_made_by_the_reading_path_alone(monkeypatch, capsys):
    """It asks for the small model, a held-out part and three learning rates."""
    told = []
    monkeypatch.setattr(symptom, "experiment", lambda lr, **settings: told.append((lr, settings)) or Outcome(lr))
    symptom.main(symptom.LRS)
    rows = json.loads(capsys.readouterr().out)
    assert [row["lr"] for row in rows] == [lr for lr, _ in told] == [3e-3, 3e-4, 3e-5]
    assert all(settings["model"] == "lilliput" and settings["holdout"] == 0.5 for _, settings in told)
    assert (
        rows[0]["losses"] == [3e-3] and rows[0]["before"] == 0.25 and [row["after"] for row in rows] == [None, 0.5, 0.5]
    )


class Outcome:
    """What `experiment` gives; the largest rate diverges."""

    def __init__(self, lr):
        self.losses, self.before = [lr], SimpleNamespace(ratio=0.25)
        self.after = None if lr == 3e-3 else SimpleNamespace(ratio=0.5)


@pytest.mark.parametrize("title", IN_PYTHON)
def test_the_experiments_in_python_run(title, capsys):
    """With few steps on short texts they print the lines that were printed for outcomes.md, with other numbers."""
    fewer = {
        r"tokens\[:half\], tokens\[half:\]": "tokens[:400], tokens[half : half + 300]",
        r"seq_len=\d+": "seq_len=16",
        r"samples=\d+": "samples=30" if title.startswith("13.") else "samples=2",
        r"steps = 40": "steps = 4",
        r"% 5 ==": "% 1 ==",
        r"(replay\", )\d+": r"\g<1>4",
        r"1\)\), 128": "1)), 16",
    }
    code = outcomes.preamble() + IN_PYTHON[title]
    for long, short in fewer.items():
        code = re.sub(long, short, code)
    exec(code, {})
    printed, written = (
        {outcomes.NUMBER.sub("#", line) for line in text.splitlines()}
        for text in (capsys.readouterr().out, outcomes.sections()[title])
    )
    assert printed and printed <= written


def test_ranges_over_the_seeds():
    printed = ["1e-4: 3.60 at step 20 of 60\n", "1e-4: 3.58 at step 5 of 60\n", "1e-4: 3.7 at step 10 of 60\n"]
    assert outcomes.ranges(printed) == "1e-4: 3.58 to 3.7 at step 5 to 20 of 60\n"
