"""The predictions: the score by hand, the figures where they are said to stand, and a session at the keyboard."""

import builtins
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exercise import predict

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = predict.questions()
NUMBER = re.compile(r"\d[\d.]*\d|\d")


@pytest.fixture
def session(monkeypatch, capsys):
    """Play keys as if typed; returns what is printed. After the last one the input ends."""

    def play(*keys):
        left = iter(keys)

        def typed(prompt):
            key = next(left, None)
            if key is None:
                raise EOFError
            if isinstance(key, str):
                return key
            raise key

        monkeypatch.setattr(builtins, "input", typed)
        predict.main()
        return " ".join(capsys.readouterr().out.split())

    return play


def test_the_score_by_hand():
    """(0.7, 0.15, 0.15) beside (1, 0, 0): 0.09 + 2 x 0.0225 = 0.135; beside (0, 1, 0): 0.49 + 0.7225 + 0.0225."""
    assert predict.brier(0.7, 3, True) == pytest.approx(0.135, abs=1e-12)
    assert predict.brier(0.7, 3, False) == pytest.approx(1.235, abs=1e-12)
    assert predict.brier(0.95, 2, True) == pytest.approx(2 * 0.0025, abs=1e-12)
    assert predict.brier(0.95, 2, False) == pytest.approx(2 * 0.9025, abs=1e-12)
    for options in (2, 3, 4):  # a guess costs the same whether it was right or not
        for right in (True, False):
            assert predict.brier(1 / options, options, right) == pytest.approx(1 - 1 / options, abs=1e-12)


@pytest.mark.parametrize("options", (2, 3, 4))
def test_honesty_is_rewarded(options):
    """Whose share of right answers is one of the three probabilities expects the lowest score by saying so."""
    said = [predict.probability(key, options) for key in predict.CERTAINTY]
    assert said == sorted(said)
    for share in said:
        expected = [
            share * predict.brier(p, options, True) + (1 - share) * predict.brier(p, options, False) for p in said
        ]
        assert min(range(3), key=expected.__getitem__) == said.index(share)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["text"][:40])
def test_every_figure_stands_in_its_file(question):
    text = (ROOT / question["file"]).read_text(encoding="utf-8")
    for piece in question["lines"]:
        assert piece in text
    said = NUMBER.findall(question["figure"])
    assert len(said) >= 2 and set(said) <= {number for piece in question["lines"] for number in NUMBER.findall(piece)}


def test_the_answers_vary():
    right = [question["right"] for question in QUESTIONS]
    assert len(right) == 12 and all(2 <= right.count(letter) <= 6 for letter in "abc")
    assert all(2 <= len(q["options"]) <= 4 and q["right"] in "abcd"[: len(q["options"])] for q in QUESTIONS)


def test_a_whole_session(session):
    """Sure of eleven right answers, and one guess that is wrong."""
    keys = [key for question in QUESTIONS for key in (question["right"], "3")]
    keys[0], keys[1] = "a", "1"
    said = session(*keys)
    assert said.count("Right.") == 11 and said.count("No: c.") == 1
    for question in QUESTIONS:
        assert " ".join(f"{question['file']}: {question['figure']} {question['why']}".split()) in said
    sure = [predict.brier(0.95, len(question["options"]), True) for question in QUESTIONS]
    assert f"11 of 12 right. Brier score {(2 / 3 + sum(sure[1:])) / 12:.3f}" in said
    guessing = sum(1 - 1 / len(question["options"]) for question in QUESTIONS) / 12
    assert f"Guessing always gives {guessing:.3f}, being sure and right always {sum(sure) / 12:.3f}." in said
    assert "A guess: 1 answers, 0 right, 0.3 expected." in said
    assert "Sure: 11 answers, 11 right, 10.4 expected." in said


def test_other_keys_are_asked_again(session):
    right = QUESTIONS[0]["right"]
    said = session("", "x", "d", "ab", " " + right.upper() + " ", "0", "sure", "2", "q")
    assert said.count("Type one of a, b, c, or q to end.") == 4
    assert said.count("Type one of 1, 2, 3, or q to end.") == 2
    assert "1 of 1 right. Brier score 0.135" in said and "Rather sure: 1 answers" in said


@pytest.mark.parametrize("end", ("q", EOFError(), KeyboardInterrupt()))
@pytest.mark.parametrize("typed", ((), ("c",), ("c", "1", "b")))
def test_an_early_end_counts_what_was_answered(session, typed, end):
    said = session(*typed, end)
    assert said.endswith("No question was answered.") == (len(typed) < 2)
    assert ("1 of 1 right. Brier score 0.667" in said) == (len(typed) == 3)


def test_nothing_heavy_is_loaded():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tests.exercise.predict"], cwd=ROOT, input="q\n", encoding="utf-8",
        capture_output=True, check=True,
    )  # fmt: skip
    assert "No question was answered." in done.stdout
    assert not re.search(r"\| +(torch|numpy|tests\.exercise\.copies)$", done.stderr, re.MULTILINE)
