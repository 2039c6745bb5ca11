"""The faults: every described one can still be put in, and a seed draws the same faults each time, of every kind."""

import ast

import pytest

from tests import mutants

EXAMPLE = '''"""At least 1 number: 2 < 3."""

def f(a: int | None = 4, *, key: str = "é") -> int | None:
    print("5 < 6", help=7)
    if a is not None and not (a <  # less than all of them
                              1.5):
        raise ValueError("a" + str(8), key=9)
    total = [x for x in range(len("é") + a) if x]; total -= g(key=a, other=a)
    return total ** a if a in total else f"{a + 1}"

if __name__ == "__main__":
    f(10)
'''


def changed(faults, kind):
    """Old and new lines of the faults of a kind, without the indent."""
    return {(fault.old.strip(), fault.new.strip()) for fault in faults if fault.breaks == kind}


def test_the_described_faults_are_current():
    faults = mutants.FAULTS + mutants.HOUSE_FAULTS
    assert not mutants.stale(faults)
    assert len({fault.name for fault in faults}) == len(faults)
    for fault in faults:
        assert all((mutants.ROOT / "tests" / test.split("::")[0]).is_file() for test in fault.tests.split())
    (fault, *_) = mutants.FAULTS
    assert "occurs 0 times, not once" in mutants.stale([fault._replace(old="nowhere")])[0]
    assert "is not Python" in mutants.stale([fault._replace(new="(")])[0]
    assert "no/file.py" in mutants.stale([fault._replace(file="no/file.py")])[0]


def test_every_kind_of_fault_by_hand():
    faults = mutants.possible("model/gpt2.py", EXAMPLE)
    condition = "if a is not None and not (a <  # less than all of them\n                              1.5):"
    listed = 'total = [x for x in range(len("é") + a) if x]; total -= g(key=a, other=a)'
    given = 'return total ** a if a in total else f"{a + 1}"'
    first_line = condition.split("\n")[0]
    assert changed(faults, "comparison swapped") == {
        (first_line, first_line.replace("is not", "is")),
        (first_line, first_line.replace("<", "<=")),
        (given, given.replace(" in ", " not in ")),
    }
    assert changed(faults, "operator swapped") == {
        (first_line, first_line.replace("and", "or")),
        (listed, listed.replace("+", "-")),
        (listed, listed.replace("-=", "+=")),
        (given, given.replace("**", "*")),
    }
    signature = 'def f(a: int | None = 4, *, key: str = "é") -> int | None:'
    assert changed(faults, "number changed") == {(signature, signature.replace("4", "5")), ("1.5):", "3.0):")}
    assert changed(faults, "condition negated") == {
        (condition, condition.replace("if ", "if not (").replace("1.5):", "1.5)):")),
        (listed, listed.replace("if x", "if not (x)")),
        (given, given.replace("a in total", "not (a in total)")),
    }
    assert changed(faults, "call dropped") == {('print("5 < 6", help=7)', "pass")}
    assert changed(faults, "raise dropped") == {('raise ValueError("a" + str(8), key=9)', "pass")}
    assert changed(faults, "keyword dropped") == {
        (listed, listed.replace("key=a, ", "")),
        (listed, listed.replace("other=a", "")),
    }
    for fault in faults:
        ast.parse(mutants.put_in(fault, EXAMPLE))


def test_the_seed_draws_faults_that_change_the_code():
    drawn = mutants.draw(30, seed=1)
    assert drawn == mutants.draw(30, seed=1) != mutants.draw(30, seed=2)
    assert len(set(drawn)) == 30 and len({fault.breaks for fault in drawn}) == 7  # every kind
    assert {fault.file.split("/")[0] for fault in drawn} <= set(mutants.ROOMS)
    for fault in drawn:
        whole = (mutants.ROOT / fault.file).read_text(encoding="utf-8")
        faulty = mutants.put_in(fault, whole)
        assert ast.dump(ast.parse(faulty)) != ast.dump(ast.parse(whole))
        same = len(whole) - len(fault.old), len(faulty) - len(fault.new)  # the rest of the text stays
        assert same[0] == same[1] and whole.split("\n")[: fault.line - 1] == faulty.split("\n")[: fault.line - 1]
        assert all((mutants.ROOT / "tests" / test).exists() for test in fault.tests.split())
    assert {fault.file.rpartition("/")[0] for fault in mutants.draw(9, 1, "train/speed")} == {"train/speed"}


def test_equivalent_faults_are_not_drawn(monkeypatch):
    def key(fault):
        return fault.file, fault.old.strip(), fault.new.strip()

    first, *others = mutants.draw(5, seed=3)
    monkeypatch.setitem(mutants.EQUIVALENT, key(first), "a reason")
    assert mutants.draw(4, seed=3) == others
    monkeypatch.undo()
    files = {file for file, _, _ in mutants.EQUIVALENT}
    sources = {file: (mutants.ROOT / file).read_text(encoding="utf-8") for file in files}
    named = {key(fault) for file, source in sources.items() for fault in mutants.possible(file, source)}
    assert set(mutants.EQUIVALENT) <= named  # their lines are still there


def test_the_tests_that_concern_a_file():
    always = ["train/test_train.py", "evaluate/test_evaluate.py"]
    assert mutants.concerned("model/gpt2.py") == mutants.concerned("model/speed/packed.py") == ["model", *always]
    assert mutants.concerned("train/loop.py") == ["train", "evaluate/test_evaluate.py"]
    assert mutants.concerned("train/speed/step.py") == ["train/speed", *always]


@pytest.mark.parametrize(
    ("code", "said"), [(0, "SURVIVED"), (1, "caught"), (4, "caught"), (None, "caught (time limit)")]
)
def test_a_fault_is_caught_by_a_test_that_fails(tmp_path, monkeypatch, code, said):
    """The fault is in a copy only; when the tests of its room pass, all others but the source tests run."""
    calls = []

    def run_tests(folder, tests, *options, limit=None):
        calls.append((tests, options))
        assert (folder / fault.file).read_text(encoding="utf-8") == "a = 2\n" and folder != tmp_path
        return code if tests == "" else 0, ""

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "gpt2.py").write_text("a = 1\n", encoding="utf-8")
    (fault,) = mutants.possible("model/gpt2.py", "a = 1\n")
    monkeypatch.setattr(mutants, "run_tests", run_tests)
    assert mutants.verdict(tmp_path, fault)[0] == said
    assert calls[0][0] == fault.tests and calls[1][0] == ""
    assert {"--ignore=tests/model", "--ignore=tests/test_readme.py"} < set(calls[1][1])
    assert mutants.verdict(tmp_path, fault._replace(line=None))[0] == "SURVIVED" and len(calls) == 3
    assert (tmp_path / "model" / "gpt2.py").read_text(encoding="utf-8") == "a = 1\n"
