"""The exercises: each is red while it is empty and green on the project's own lines; no work is overwritten."""

import json
import re
import subprocess
import sys
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


# Runs pytest in one copy of the project after another. One process, since importing torch takes longer than the tests.
IN_TURN = """
import json, os, sys
import pytest, torch

for folder, tests in json.load(sys.stdin):
    os.chdir(folder)
    sys.path[0] = folder
    # The plugin collects garbage at the end, through all of torch; rewritten assertions take longer to compile.
    options = ["-q", "-p", "no:unraisableexception", "-p", "no:cacheprovider", "--assert=plain"]
    options += ["--junitxml=report.xml"]
    if pytest.main([*options, *("tests/" + test for test in tests)]) not in (0, 1):
        sys.exit(f"no result in {folder}")
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(folder + os.sep):
            del sys.modules[name]  # the next copy has its own
"""


def checks_of(name):
    return [test for test, _, _ in COURSE[name]["checks"]]


def write_attention(folder, body):
    """Put `body` in place of the error that says what to write."""
    file = folder / "model" / "gpt2.py"
    source = (copies.ROOT / "model" / "gpt2.py").read_text(encoding="utf-8")
    hollow = copies.hollow(source, COURSE["attention"]["write"])
    error = re.search(r"    raise NotImplementedError\(\n(?:        .*\n)+    \)\n", hollow)[0]
    file.write_text(hollow.replace(error, body), encoding="utf-8")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What checks find: of each exercise in its empty copy, all of them in an untouched copy, and of two attentions."""
    place = tmp_path_factory.mktemp("exercises")
    tests = {name: checks_of(name) for name in COURSE}
    for name in COURSE:
        exercise.begin(COURSE[name], place / name, again=False)
    copies.copy_project(place / "untouched", {}, again=False)
    tests["untouched"] = list(dict.fromkeys(test for name in COURSE for test in checks_of(name)))
    solution = copies.solution((copies.ROOT / "model" / "gpt2.py").read_text(encoding="utf-8"), "attention")
    bodies = {
        "attention of a wrong shape": "    return q @ k @ v\n",
        "attention by --solution": solution.split('"""\n')[1] + "\n",
    }
    for name, body in bodies.items():
        exercise.begin(COURSE["attention"], place / name, again=False)
        write_attention(place / name, body)
        tests[name] = checks_of("attention")
    turns = json.dumps([(str(place / name), names) for name, names in tests.items()])
    subprocess.run([sys.executable, "-c", IN_TURN], input=turns, text=True, check=True, stdout=subprocess.DEVNULL)
    return {name: copies.read_report(place / name / "report.xml", names) for name, names in tests.items()}


@pytest.mark.parametrize("name", COURSE)
def test_every_check_is_red_while_nothing_is_written(found, name):
    assert len(found[name]) >= 2 and all(found[name].values()), found[name]
    assert any("write " in stopped for stopped in found[name].values())  # the error says what to write


def test_every_check_is_green_on_the_projects_own_lines(found):
    assert not any(found["untouched"].values()), found["untouched"]


@pytest.mark.parametrize("name", COURSE)
def test_signature_docstring_and_shapes_stay_and_nothing_else_goes(name):
    e = COURSE[name]
    source = (copies.ROOT / e["file"]).read_text(encoding="utf-8")
    hollow = copies.hollow(source, e["write"])
    kept, removed = hollow.splitlines(), source.splitlines()
    for function in e["write"]:
        own, left = copies.find(source, function), copies.find(hollow, function)
        assert (
            own.args.args and own.body[0].lineno - own.lineno == left.body[0].lineno - left.lineno or len(own.body) == 1
        )
        first, last = copies.body_rows(own)
        assert copies.solution(hollow, function).split("raise NotImplementedError")[0].count("# ") <= last - first + 1
        removed = [line for line in removed if line not in source.splitlines()[first - 1 : last]]
    assert [line for line in kept if line in removed] == removed  # all other lines, in their order
    assert e["before"].endswith("?") and e["hint"] and e["after"]


def test_shape_comments_name_what_has_the_shape():
    hollow = copies.hollow(
        (copies.ROOT / "model" / "gpt2.py").read_text(encoding="utf-8"), COURSE["attention"]["write"]
    )
    assert "    # scores: (B, H, T, T): row t asks, column s answers\n" in hollow
    assert "softmax(-1)" not in hollow and "    # (B, H, T, D)\n    raise NotImplementedError(" in hollow


def test_a_course_of_checks_in_words(command, refused, folder, found, monkeypatch):
    """The attention: nothing, then a body that forgets the mask, then wrong ones, then one that is right."""
    code, printed, err = command(exercise.main, "attention")
    assert code == 0 and COURSE["attention"]["before"].split(".")[0] in " ".join(printed.split()), err
    copy = folder / "attention"
    write_attention(copy, "    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v\n")
    code, printed, _ = command(exercise.main, "attention", "--check")
    assert code == 1 and "not yet   a later token changes an earlier result: the mask" in printed
    assert "right     the weights of a row sum to 1" in printed and "hint:" in printed and "after:" not in printed
    assert "begun" in command(exercise.main)[1]
    write_attention(copy, "    return q +\n")
    assert re.search(r"model/gpt2.py:\d+ is not Python yet", refused(exercise.main, "attention", "--check"))

    def check(label):  # what was found in another copy, in words
        write_attention(copy, "    pass\n")
        monkeypatch.setattr(copies, "outcomes", lambda where, tests: found[label])
        return command(exercise.main, "attention", "--check")[:2]

    code, printed = check("attention")
    assert code == 1 and re.match(r"not written yet: write attention: .* \(at model/gpt2.py:\d+\)$", printed)
    code, printed = check("attention of a wrong shape")
    assert code == 1 and re.search(r"^it stops  RuntimeError.* \(at model/gpt2.py:\d+\)$", printed, re.M)
    code, printed = check("attention by --solution")
    assert code == 0 and "not yet" not in printed and "after:" in printed and "hint:" not in printed
    assert re.search(r"^attention +right ", command(exercise.main)[1], re.MULTILINE)


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
        (["attenton"], "no exercise 'attenton'; there are embedding, attention"),
        (["ratio", "--check"], "ratio yet; python -m tests.exercise ratio makes it"),
        (["fault", "--check"], "no --check"),
        (["fault", "--level", "4"], "invalid choice"),
        (["fault", "--seed", "-1"], "whole number from 0"),
        (["fault", "--answer", "model/gpt2.py:40"], "no fault was put into .*fault-1-0 yet"),
        (["fault", "--solution"], "no fault was put into"),
        (["fault", "--answer", "model/gpt3.py:40"], "no file 'model/gpt3.py'"),
        (["fault", "--answer", "attention"], "no file ''"),
    ],
)
def test_wrong_input(refused, folder, arguments, complaint):
    assert re.search(complaint, refused(exercise.main, *arguments)) and not folder.exists()


@pytest.mark.parametrize("level", [1, 3])
def test_a_fault_is_found_by_file_and_line(command, refused, folder, level):
    where = ["fault", "--level", level, "--seed", 5]
    code, printed, err = command(exercise.main, *where)
    assert code == 0, err
    copy = folder / f"fault-{level}-5"
    drawn = fault.drawn(copy)
    assert (drawn.file in printed) == (level == 1) and drawn.breaks not in printed
    faulty = (copy / drawn.file).read_text(encoding="utf-8")
    assert faulty == put_in(drawn, (copies.ROOT / drawn.file).read_text(encoding="utf-8"))
    differ = [
        f for f in copies.ROOT.glob("*/*.py") if f.read_bytes() != (copy / f.relative_to(copies.ROOT)).read_bytes()
    ]
    assert {str(f.relative_to(copies.ROOT)) for f in differ} - set(copies.REPLACED) <= {drawn.file}
    line = fault.rows_of(drawn)[0]
    code, told, _ = command(exercise.main, *where, "--answer", f"{drawn.file}:{faulty.count(chr(10))}")
    assert code == 1 and told.startswith("No")
    assert "not '99999'" in refused(exercise.main, *where, "--answer", f"{drawn.file}:99999")
    code, told, _ = command(exercise.main, *where, "--answer", f"{drawn.file}:{line}")
    assert code == 0 and told.startswith("Right") and drawn.breaks in told and drawn.tests.split()[0] in told
    assert command(exercise.main, *where, "--solution")[1] in told


def test_seeds_draw_different_faults_and_level_two_those_with_a_symptom():
    assert sorted(fault.candidates(1, 0)) == sorted(fault.candidates(3, 0)) == list(range(len(FAULTS)))
    assert fault.candidates(3, 7) != fault.candidates(3, 8) and fault.candidates(3, 7) == fault.candidates(3, 7)
    # Of those that were once seen to show a symptom none may be gone: then `python -m tests.exercise.fault` is due.
    visible = json.loads(fault.VISIBLE_FILE.read_text(encoding="utf-8"))
    assert {FAULTS[i].name for i in fault.candidates(2, 0)} == set(visible) and 20 < len(visible) < len(FAULTS)


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
    assert (folder / "fault-2-0" / fault.SYMPTOM_FILE).stat().st_size > 10_000
    assert re.search(r"^3e-3 +4\.00 to 2\.50, 0\.40 to 0\.50 +4\.00 to 2\.62, 0\.40 to 0\.50$", printed, re.MULTILINE)
    drawn = fault.drawn(folder / "fault-2-0")
    assert drawn == FAULTS[fault.candidates(2, 0)[0]] and drawn.file not in printed and drawn.breaks not in printed


@pytest.mark.parametrize("change", [{"after": 0.44}, {"after": None}, {"before": 0.34}, {"losses": [4.0]}])
def test_what_counts_as_a_symptom(tmp_path, change):
    healthy = [{"lr": 3e-3, "losses": [4.0, 3.0], "before": 0.4, "after": 0.5}]
    assert fault.symptom(tmp_path, healthy, [healthy[0] | change])[1]
    assert not fault.symptom(tmp_path, healthy, [healthy[0] | {"losses": [4.04, 3.0], "after": 0.46}])[1]
    assert not fault.symptom(tmp_path, healthy, None)[1]  # an error names its place


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
