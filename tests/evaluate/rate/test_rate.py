"""The blind comparison: shares and intervals by hand, sittings by script, and nobody's name in sight."""

import builtins
import io
import itertools
import json
import math
import random
import re
import sys
from collections import Counter

import pytest

from data.settings import RATINGS_FILE
from evaluate.rate.__main__ import main
from evaluate.rate.contest import (
    FEW,
    QUESTIONS,
    Comparison,
    draw_comparisons,
    open_contest,
    pairs_for_a_verdict,
    read_ratings,
    sha256,
)
from evaluate.rate.preferences import cell, preferences, wilson_interval
from evaluate.results import find_runs, runs_of
from evaluate.table import flowing
from tests.evaluate import handmade
from tests.evaluate.handmade import write_runs

WORDS = ["ship", "island", "rope", "captain", "harbour", "wind", "giant", "horse", "letter", "crown", "\x1b[31m", "\n"]


# --- who is compared with whom


@pytest.mark.parametrize("participants, prompts, pairs", [(5, 12, 24), (2, 12, 1), (4, 12, 60), (3, 5, 9), (4, 6, 999)])
def test_the_order_is_balanced_and_no_comparison_comes_twice(participants, prompts, pairs):
    names = [f"n{i}" for i in range(participants)]
    matches = [*map(frozenset, itertools.combinations(names, 2))]
    for seed in range(25):
        order = draw_comparisons(names, prompts, pairs, seed)
        assert len(order) == min(pairs, len(matches) * prompts)
        assert len({(c.prompt, frozenset(c[1:])) for c in order}) == len(order)
        by_match, by_prompt = Counter(frozenset(c[1:]) for c in order), Counter(c.prompt for c in order)
        for counts, possible in ((by_match, matches), (by_prompt, range(prompts))):
            assert max(counts.values()) - min(counts[one] for one in possible) <= 1


def test_the_order_comes_from_the_seed():
    names = ["base", "1e-3", "1e-4", "book"]
    orders = [draw_comparisons(names, 12, 20, seed) for seed in range(200)]
    assert orders[3] == draw_comparisons(names, 12, 20, 3) and orders[3] != orders[4]
    # Sides are random: in about half of the 200 x 20 cases the participant named first stands on the left.
    left = sum(names.index(c.left) < names.index(c.right) for order in orders for c in order)
    assert abs(left - 2000) < 5 * math.sqrt(1000)
    # The order is random too: the matches do not take turns.
    first = [[frozenset(c[1:]) for c in order[:4]] for order in orders]
    assert len({order[0] for order in orders}) > 60 and sum(len(set(matches)) < 4 for matches in first) > 60
    assert {draw_comparisons(names, 12, 3, seed)[0].prompt for seed in range(200)} == set(range(12))


@pytest.mark.parametrize("participants", range(2, 13))
def test_the_default_number_of_pairs_is_enough_for_everybody_and_no_more(participants):
    order = draw_comparisons([*map(str, range(participants))], 12, pairs_for_a_verdict(participants))
    looks = Counter(name for c in order for name in (c.left, c.right))
    assert FEW <= min(looks.values()) == max(looks.values()) < FEW + participants - 1


def test_of_several_seeds_the_lowest_that_has_an_outcome():
    diverged = result_of(1e-3, seed=0) | {"after": None}
    results = [diverged, result_of(1e-3, seed=2), result_of(1e-3, seed=1), result_of(1e-5, seed=0)]
    for order in itertools.permutations(results):
        texts = open_contest(runs_of(order)).texts
        assert list(texts) == ["base", "1e-3", "1e-5", "book"]
        assert texts["1e-3"][0] == "".join(continuations("after 0.001 1", 4)[0]["pieces"])


# --- the outcome


def rating(left, right, letters, prompt=0, rater="anna"):
    """Of the texts of `result_of(1e-3)`."""
    line = open_contest(runs_of([result_of(1e-3)])).without_names(Comparison(prompt, left, right))
    return line | {"rater": rater, "answers": dict(zip(QUESTIONS, letters if len(letters) == 3 else 3 * letters))}


def rows(*ratings):
    found = preferences(runs_of([result_of(1e-3)]), [*ratings])
    assert found["untold"] == "" and len(found["titles"]) == 4
    return {name: cells for name, *cells in found["rows"]}


def test_shares_by_hand():
    found = rows(
        rating("base", "book", "rtl", prompt=0),
        rating("book", "base", "llt", prompt=1),
        rating("base", "1e-3", "l", prompt=0),
    )
    # Coherence, style, originality.
    assert [[one.split("; ")[1] for one in cells] for cells in found.values()] == [
        ["1 / 0 / 2", "1 / 1 / 1", "2 / 1 / 0"],
        ["0 / 0 / 1", "0 / 0 / 1", "0 / 0 / 1"],
        ["2 / 0 / 0", "1 / 1 / 0", "0 / 1 / 1"],
    ]
    assert [cells[1].split(" (")[0] for cells in found.values()] == ["50 %", "0 %", "75 %"]
    low, high = wilson_interval(0.75, 2)
    assert found["book"][1] == f"75 % ({100 * low:.0f} to {100 * high:.0f} %); 1 / 1 / 0"
    assert rows(rating("base", "book", "l"))["1e-3"] == ["–"] * 3  # nobody was asked


def test_several_raters_of_one_comparison_are_one_comparison():
    ratings = [rating("base", "book", letter, rater=name) for name, letter in zip("abcd", "rrrl")]
    ratings.append(rating("book", "base", "l", rater="e"))  # the same two texts the other way round
    assert rows(*ratings)["book"][0] == cell([1.0, 1.0, 1.0, 0.0, 1.0], 1)
    found = preferences(runs_of([result_of(1e-3)]), ratings)
    assert found["lead"].startswith("1 different comparisons") and "Raters: a, b, c, d, e." in found["lead"]


def test_a_text_that_two_participants_wrote_counts_for_both():
    twin = result_of(1e-5)
    twin["after"] = twin["before"]  # a learning rate that changed nothing
    contest = open_contest(runs_of([twin]))
    line = {"rater": "anna", "answers": dict.fromkeys(QUESTIONS, "l")}
    line |= contest.without_names(Comparison(0, "1e-5", "book"))
    found = {name: cells for name, *cells in preferences(runs_of([twin]), [line])["rows"]}
    assert found["base"] == found["1e-5"] == [cell([1.0], 1)] * 3 and found["book"] == [cell([0.0], 1)] * 3


def test_wilson_interval():
    # The roots of |p - share| = z sqrt(p (1 - p) / n), which is how Wilson defines them.
    for share, n in ((0.8, 10), (0.5, 7), (0.03, 200)):
        for end in wilson_interval(share, n):
            assert abs(end - share) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), abs=1e-12)
    assert wilson_interval(1.0, 10) == pytest.approx([10 / (10 + 1.959964**2), 1.0], abs=1e-12)
    assert wilson_interval(0.0, 10) == pytest.approx([0.0, 1 - 10 / (10 + 1.959964**2)], abs=1e-12)
    assert wilson_interval(0.8, 10) == pytest.approx([0.4902, 0.9433], abs=5e-5)  # published tables
    # As many as are needed to tell a share of eight in ten from one half.
    assert wilson_interval(0.8, FEW)[0] > 0.5 > wilson_interval(0.8, FEW - 1)[0]


# --- sittings


def continuations(name, prompts):
    rng = random.Random(name)
    return [{"pieces": [" " + rng.choice(WORDS) for _ in range(40)]} for _ in range(prompts)]


def result_of(lr, seed=0, prompts=4):
    result = handmade.result_of(lr, seed, prompts=[f"Prompt number {i}: the wind" for i in range(prompts)])
    for when, name in (("before", "before"), ("after", f"after {lr} {seed}"), ("book", "the author")):
        result[when]["continuations"] = continuations(name, prompts)
    return result


@pytest.fixture
def runs(tmp_path):
    return write_runs(tmp_path / "runs", result_of(1e-3), result_of(1e-5))


@pytest.fixture
def typed(command, monkeypatch):
    """`typed(keys, *arguments)`: the command with `keys` typed, one a line."""

    def call(keys, *arguments):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{key}\n" for key in keys)))
        return command(main, *arguments)

    return call


def saved(runs):
    """The ratings without their times."""
    return [{key: r[key] for key in r if key != "time"} for r in read_ratings([runs / RATINGS_FILE])]


def letters(ratings):
    return ["".join(rating["answers"][question] for question in QUESTIONS) for rating in ratings]


KEYS = random.Random(1).choices("lrt", k=3 * 12)
ANNA = ("--pairs", 12, "--rater", "anna")


def test_a_sitting_and_its_ratings(runs, typed):
    code, out, err = typed(KEYS, runs, *ANNA)
    assert code == 0 and err == "" and "12 of 12 answered and saved. Add --results" in out
    contest = open_contest(find_runs([runs]))
    order = draw_comparisons(["base", "1e-3", "1e-5", "book"], 4, 12, seed=0)
    assert letters(saved(runs)) == ["".join(KEYS[i : i + 3]) for i in range(0, 36, 3)]
    for found, (prompt, left, right) in zip(saved(runs), order, strict=True):
        assert (found["rater"], found["prompt"]) == ("anna", prompt)
        assert found["left_sha256"] == sha256(contest.texts[left][prompt])
        assert found["right_sha256"] == sha256(contest.texts[right][prompt])
    code, out, err = typed([], runs, *ANNA)
    assert code == 0 and "12 of them answered" in out and "LEFT" not in out


def test_what_is_shown_is_blind_and_on_its_side(runs, typed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    _, out, err = typed(["x", "?", *KEYS], runs, *ANNA)
    file = (runs / RATINGS_FILE).read_text(encoding="utf-8")
    for name in ("base", "book", "before:", "after", "1e-", "e-05", "0.001", "run-", "author", "\x1b"):
        assert name not in out + err + file
    contest = open_contest(find_runs([runs]))
    screens = re.split(r"-+ \d+ of 12 -+", out)[1:]
    for screen, comparison in zip(screens, draw_comparisons(contest.texts, 4, 12), strict=True):
        split = [row.partition("|") for row in screen.split("\n") if "|" in row]
        for side, name in ((0, comparison.left), (2, comparison.right)):
            words = " ".join(row[side] for row in split).split()
            text = contest.texts[name][comparison.prompt].replace("\x1b", " ")
            assert words == [("LEFT", None, "RIGHT")[side], *text.split()]
        assert contest.prompts[comparison.prompt] in screen
        assert max(len(row) for row in screen.split("\n") if "|" in row) <= 100


def test_ratings_are_added_to_what_is_there_and_never_through_a_link(runs, typed, tmp_path):
    typed(KEYS, runs, *ANNA)
    file = runs / RATINGS_FILE
    file.write_text(whole := file.read_text(encoding="utf-8").removesuffix("\n"), encoding="utf-8")
    typed(KEYS, runs, "--rater", "berta", "--pairs", 12)
    assert file.read_text(encoding="utf-8").startswith(whole + "\n{") and len(read_ratings([file])) == 24
    file.rename(tmp_path / "profile")
    file.symlink_to(tmp_path / "profile")
    before = (tmp_path / "profile").read_bytes()
    code, _, err = typed(KEYS, runs, "--rater", "carla")
    assert code == 2 and "is a link" in err and (tmp_path / "profile").read_bytes() == before


@pytest.mark.parametrize("leave", ["q", "end of input", "Ctrl-C"])
def test_resumed_equals_uninterrupted(runs, tmp_path, typed, monkeypatch, leave):
    whole = write_runs(tmp_path / "whole", result_of(1e-3), result_of(1e-5))
    typed(KEYS, whole, *ANNA)
    first = [*KEYS[:8], *(["q"] if leave == "q" else [])]  # two pairs and two answers of the third
    with monkeypatch.context() as patch:
        if leave == "Ctrl-C":
            keys = iter(first)

            def pressed(_):
                for key in keys:
                    return key
                assert len(saved(runs)) == 2  # every pair is in the file at once
                raise KeyboardInterrupt

            patch.setattr(builtins, "input", pressed)
        code, out, _ = typed(first, runs, *ANNA)
    assert code == 0 and "2 of 12 answered and saved. The same command continues." in out
    assert saved(runs) == saved(whole)[:2]
    code, out, _ = typed(KEYS[6:], runs, *ANNA)
    assert "2 of them answered" in out and "12 of 12 answered" in out
    assert out.index(" 3 of 12 ") < out.index(" 12 of 12 -")
    assert saved(runs) == saved(whole)


def test_a_torn_line_is_named_and_nothing_is_glued_to_the_last(runs, typed):
    typed(KEYS[:9], runs, *ANNA)
    file, three = runs / RATINGS_FILE, saved(runs)
    content = file.read_bytes()
    file.write_bytes(content[:-20])
    for arguments in (ANNA, ["--results"]):
        code, _, err = typed([], runs, *arguments)
        assert code == 2 and err == f"error: {file}, line 3 is not a rating; delete the line\n"
    assert file.read_bytes() == content[:-20]
    file.write_bytes(content[:-1])  # only the line end is missing
    typed(KEYS[9:12], runs, *ANNA)
    assert saved(runs)[:3] == three and len(saved(runs)) == 4 and b"\n\n" not in file.read_bytes()


def test_back_and_wrong_keys(runs, typed):
    keys = ["b", "l", "lr", "b", "r", "", "T", "l"]  # the first pair: r t l
    keys += ["t", "t", "b", "b", "b", "r"]  # of the second two answers, then back to the last of the first: r t r
    keys += ["l", "l", "l", "b", "b", "b", "b", "t", "q"]  # the second, then once more the last of the first: r t t
    _, out, _ = typed(keys, runs, *ANNA)
    assert letters(saved(runs)) == ["rtt", "lll"] and "2 of 12 answered" in out
    assert len((runs / RATINGS_FILE).read_bytes().splitlines()) == 4  # the first pair three times, the last line counts
    assert out.count("l: left, r: right") == 3  # at the start and for two wrong keys
    assert "This is the first answer." in out


def test_raters_do_not_disturb_one_another(runs, typed):
    typed(KEYS, runs, *ANNA)
    _, out, _ = typed(KEYS[::-1], runs, "--pairs", 12, "--rater", "berta")
    assert "12 comparisons, 0 of them answered" in out
    assert Counter(r["rater"] for r in saved(runs)) == {"anna": 12, "berta": 12}
    code, out, err = typed([], runs, "--results")
    assert code == 0 and err == "" and "Raters: anna, berta." in out and "A verdict needs 24 pairs" in out
    assert "other texts" not in out
    for row in preferences(find_runs([runs]), saved(runs))["rows"]:
        assert f"\n| {' | '.join(row)} |\n" in out
        assert sum(map(int, row[1].split("; ")[1].split(" / "))) == 2 * 6  # 12 pairs of 4 participants, two raters


def test_ratings_of_changed_texts_are_left_out_and_asked_again(runs, typed):
    typed(KEYS, runs, *ANNA)
    changed = result_of(1e-5)
    changed["after"]["continuations"] = continuations("trained anew", 4)
    write_runs(runs, changed)
    _, out, _ = typed([], runs, "--results")
    assert "other texts now: 6.\n" in out and "| 1e-5 | – | – | – |" in out and "6 different comparisons" in out
    _, out, _ = typed(3 * 6 * ["t"], runs, *ANNA)
    assert "12 comparisons, 6 of them answered" in out and "12 of 12 answered" in out


def page_data(html):
    return json.loads(re.search(r"= (\{.*\});\n", html).group(1))


def test_the_page_is_blind_and_its_answers_are_understood(runs, typed, tmp_path):
    nasty = result_of(1e-5)
    nasty["after"]["continuations"][0]["pieces"] = ["</script><script>alert(1)</script>"]
    write_runs(runs, nasty)
    file = tmp_path / "page.html"
    code, out, err = typed([], runs, "--page", file, "--pairs", 12, "--seed", 3)
    assert (code, out, err) == (0, f"{file}\n", "")
    html = file.read_text(encoding="utf-8")
    for name in ("base", "book", "1e-", "e-05", "0.001", "run-", "author", "http:", "https:"):
        assert name not in html
    assert html.count("</script>") == 1
    data = page_data(html)
    assert len(data["comparisons"]) == 12 and tuple(data["questions"]) == tuple(QUESTIONS)
    assert data["shortage"].startswith("A verdict needs 24 pairs")
    # What the script on the page puts into a line.
    assert "JSON.stringify({rater, ...comparison.rated, answers, time: own.at(-1)[1]})" in html
    lines = [
        {"rater": "berta"} | comparison["rated"] | {"answers": dict(zip(data["questions"], KEYS[3 * i : 3 * i + 3]))}
        for i, comparison in enumerate(data["comparisons"])
    ]
    downloaded = tmp_path / "ratings (1).jsonl"
    downloaded.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    typed(KEYS, runs, "--rater", "berta", "--pairs", 12, "--seed", 3)  # the same answers in the terminal
    assert saved(runs) == lines
    contest = open_contest(find_runs([runs]))
    for shown, comparison in zip(data["comparisons"], draw_comparisons(contest.texts, 4, 12, seed=3), strict=True):
        texts = [contest.prompts[comparison.prompt], *contest.texts_of(comparison)]
        assert [*shown["texts"].values()] == [flowing(text, True) for text in texts]
    one = typed([], runs, "--results")
    assert one == typed([], runs, "--ratings", downloaded, runs / RATINGS_FILE)  # the same ratings twice count once
    (runs / RATINGS_FILE).unlink()
    assert one == typed([], runs, "--results", "--ratings", downloaded) and "12 different comparisons" in one[1]


def test_wrong_input_ends_in_one_line(tmp_path, typed):
    def error(*arguments):
        code, _, err = typed([], *arguments)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1
        return err

    folder = write_runs(tmp_path / "other", result_of(1e-3), result_of(1e-5, prompts=3))
    assert "the run at 1e-5 has other prompts than that at 1e-3" in error(folder)
    folder = write_runs(tmp_path / "good", result_of(1e-3))
    assert f"no ratings in {folder / RATINGS_FILE}; answer some first" in error(folder, "--results")
    assert not (folder / RATINGS_FILE).exists()
    good = rating("base", "book", "l")
    without = [{key: good[key] for key in good if key != left_out} for left_out in good]
    wrong = [[], 1, good | {"answers": dict.fromkeys(QUESTIONS, "x")}, good | {"answers": {}}, *without]
    for line in ("{", *map(json.dumps, wrong)):
        (folder / RATINGS_FILE).write_text(f"{json.dumps(good)}\n{line}\n", encoding="utf-8")
        assert "line 2 is not a rating; delete the line" in error(folder, "--results")
    # A prompt that is not there, or a text of another prompt: no error, but no rating of these texts.
    other = [good | {"prompt": 1}, good | {"prompt": -4}, good | {"prompt": 99}]
    (folder / RATINGS_FILE).write_text("".join(f"{json.dumps(line)}\n" for line in other), encoding="utf-8")
    assert "No ratings of these texts yet. Ratings left out because" in typed([], folder, "--results")[1]
    (folder / RATINGS_FILE).unlink()
    (folder / RATINGS_FILE).mkdir()
    assert error(folder)


def test_the_default_is_enough_and_too_few_pairs_are_said(tmp_path, typed):
    file = tmp_path / "page.html"
    folder = write_runs(tmp_path / "runs", *(result_of(lr, prompts=12) for lr in (1e-3, 1e-5)))
    assert typed([], folder, "--page", file)[0] == 0
    data = page_data(file.read_text(encoding="utf-8"))
    assert len(data["comparisons"]) == 24 and data["shortage"] == ""
    assert "A verdict needs" not in typed(3 * 24 * ["t"], folder, "--rater", "anna")[1]
    assert "A verdict needs" not in typed([], folder, "--results")[1]
    assert "A verdict needs 24 pairs" in typed(["q"], folder, "--rater", "berta", "--pairs", 23)[1]
    few = write_runs(tmp_path / "few", result_of(1e-3, prompts=2))
    assert "note: these texts allow 6 comparisons, not 18" in typed(["q"], few)[1]  # 3 matches x 2 prompts
