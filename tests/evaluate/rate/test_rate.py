"""The blind comparison: statistics by hand and by brute force, sessions by script, and nobody's name in sight."""

import builtins
import io
import itertools
import json
import math
import random
import re
import sys
from collections import Counter

import numpy as np
import pytest

from evaluate.rate import statistics as preference
from evaluate.rate.__main__ import main
from evaluate.rate.contest import draw_comparisons, open_contest, pairs_for_a_verdict, sha256
from evaluate.rate.ratings import read_ratings, usable_ratings
from evaluate.rate.session import readable
from evaluate.rate.statistics import FEW, QUESTIONS, bradley_terry, krippendorff_alpha, summary, wilson_interval
from evaluate.results import find_results, write_result
from evaluate.settings import RATINGS_FILE

WORDS = ["ship", "island", "rope", "captain", "harbour", "wind", "giant", "horse", "letter", "crown", "\x1b[31m", "\n"]


def rating(left, right, letters, prompt=0, rater="anna", repeat=False):
    answers = dict(zip(QUESTIONS, letters if len(letters) == 3 else 3 * letters))
    return {"rater": rater, "prompt": prompt, "left": left, "right": right, "answers": answers, "repeat": repeat}


# --- statistics


def test_wins_by_hand():
    ratings = [
        rating("base", "book", "rtl", prompt=0),
        rating("book", "base", "llt", prompt=1),
        rating("base", "1e-3", "l", prompt=0),
        rating("book", "base", "r", prompt=0, repeat=True),  # no new evidence
        rating("base", "1e-9", "r"),  # a stranger
    ]
    found = summary(ratings, ["base", "1e-3", "book"])
    assert (found["ratings"], found["comparisons"], found["repeats"], found["raters"]) == (3, 3, 1, ["anna"])
    tallies = {
        question: {name: (s["wins"], s["ties"], s["losses"]) for name, s in standings.items()}
        for question, standings in found["questions"].items()
    }
    assert tallies == {
        "coherence": {"base": (1, 0, 2), "1e-3": (0, 0, 1), "book": (2, 0, 0)},
        "style": {"base": (1, 1, 1), "1e-3": (0, 0, 1), "book": (1, 1, 0)},
        "originality": {"base": (2, 1, 0), "1e-3": (0, 0, 1), "book": (0, 1, 1)},
    }
    style = found["questions"]["style"]
    assert [s["share"] for s in style.values()] == [0.5, 0.0, 0.75]
    assert [s["comparisons"] for s in style.values()] == [3, 1, 2]
    assert style["book"]["share_ci"] == wilson_interval(0.75, 2)
    assert style["1e-3"]["score"] < 0 and style["1e-3"]["score_ci"] is None  # one comparison
    json.dumps(found, allow_nan=False)


def test_several_raters_of_one_comparison_are_one_comparison():
    ratings = [rating("base", "book", letter, rater=name) for name, letter in zip("abcd", "rrrl")]
    ratings.append(rating("book", "base", "l", rater="e"))  # the same two texts the other way round
    standing = summary(ratings, ["base", "book"])["questions"]["style"]["book"]
    assert (standing["wins"], standing["losses"], standing["comparisons"], standing["share"]) == (4, 1, 1, 0.8)
    assert standing["share_ci"] == wilson_interval(0.8, 1)


def test_wilson_interval():
    # The roots of |p - share| = z sqrt(p (1 - p) / n), which is how Wilson defines them.
    for share, n in ((0.8, 10), (0.5, 7), (0.03, 200)):
        for end in wilson_interval(share, n):
            assert abs(end - share) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), abs=1e-12)
    assert wilson_interval(1.0, 10) == pytest.approx([10 / (10 + 1.959964**2), 1.0], abs=1e-12)
    assert wilson_interval(0.0, 10) == pytest.approx([0.0, 1 - 10 / (10 + 1.959964**2)], abs=1e-12)
    assert wilson_interval(0.8, 10) == pytest.approx([0.4902, 0.9433], abs=5e-5)  # published tables


def log_posterior(strengths, points, prior):
    """Logarithm of likelihood and prior, as the definition has them."""
    total = sum(prior * (s - 2 * math.log1p(math.exp(s))) for s in strengths)
    for i, j in itertools.permutations(range(len(strengths)), 2):
        total -= points[i][j] * math.log1p(math.exp(strengths[j] - strengths[i]))
    return total


def brute_force(points, prior):
    """The strengths of the highest posterior, by stepping to the best neighbour on ever finer grids."""
    best, step = (0.0,) * len(points), 1.0
    while step > 1e-7:
        moves = itertools.product((-step, 0, step), repeat=len(points))
        near = max(
            (tuple(b + m for b, m in zip(best, move)) for move in moves), key=lambda s: log_posterior(s, points, prior)
        )
        if near == best:
            step /= 2
        best = near
    return best


def test_bradley_terry_of_two_is_the_log_of_the_odds():
    scores = bradley_terry(np.array([[0.0, 7.5], [2.5, 0.0]]), prior=0)
    assert scores[0] - scores[1] == pytest.approx(math.log(3), abs=1e-8)


def two_player_score(wins, losses):
    """The difference of strengths with the prior: by symmetry they are d/2 and -d/2, and bisection finds d."""

    def slope(s):
        return wins + 0.5 - (wins + losses) / (1 + math.exp(-2 * s)) - 1 / (1 + math.exp(-s))

    low, high = -20.0, 20.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return 2 * low


def test_bradley_terry_of_two_with_the_prior():
    for wins, losses in ((7.5, 2.5), (0, 0), (12, 0), (300, 1)):
        scores = bradley_terry(np.array([[0.0, wins], [losses, 0.0]]))
        assert scores[0] - scores[1] == pytest.approx(two_player_score(wins, losses), abs=1e-6)
        assert scores.sum() == pytest.approx(0, abs=1e-6)


def test_bradley_terry_against_brute_force():
    points = [
        np.array([[0, 3, 5.5], [2, 0, 4], [0.5, 1, 0]]),
        np.array([[0, 4, 4], [0, 0, 1], [0, 2, 0]]),  # the first always wins
        np.array([[0, 4, 0], [1, 0, 0], [0, 0, 0.0]]),  # the third has no comparison
    ]
    together = bradley_terry(np.stack(points))
    for scores, table in zip(together, points):
        assert scores == pytest.approx(brute_force(table, 0.5), abs=1e-5)
        assert scores == pytest.approx(bradley_terry(table), abs=1e-7)
    assert together[2][2] == 0


def test_extremes():
    names = ["base", "1e-3", "book"]
    matches = list(itertools.combinations(names, 2))
    ties = summary([rating(*match, "t", prompt=p) for p in range(4) for match in matches], names)
    for standing in ties["questions"]["style"].values():
        assert (standing["wins"], standing["ties"], standing["losses"], standing["share"]) == (0, 8, 0, 0.5)
        assert standing["score"] == pytest.approx(0) and standing["score_ci"] == pytest.approx([0, 0])
    one_sided = summary([rating(*match, "r", prompt=p) for p in range(4) for match in matches], names)
    book = one_sided["questions"]["coherence"]["book"]
    assert book["share"] == 1.0 and 1 < book["score"] < 10 and book["share_ci"][0] < 0.8
    assert 0 < book["score_ci"][0] <= book["score"] <= book["score_ci"][1] < 10
    base = one_sided["questions"]["coherence"]["base"]
    assert base["score"] == 0 and base["score_ci"] == [0, 0]
    nothing = summary([], names)
    assert nothing["few"] and nothing["ratings"] == 0 and nothing["agreement"] is None and nothing["consistency"] == {}
    assert nothing["questions"]["style"]["book"] == dict.fromkeys(("wins", "ties", "losses", "comparisons"), 0) | (
        dict.fromkeys(("share", "share_ci", "score", "score_ci"))
    )
    for found in (ties, one_sided, nothing):
        json.dumps(found, allow_nan=False)


def test_few_is_said_until_everybody_has_enough():
    ratings = [rating("base", "book", "l", prompt=p) for p in range(FEW)]
    assert not summary(ratings, ["base", "book"])["few"]
    assert summary(ratings[1:], ["base", "book"])["few"]
    assert summary(ratings, ["base", "1e-3", "book"])["few"]


def test_enough_tells_a_share_of_eight_in_ten_from_one_half():
    assert wilson_interval(0.8, FEW)[0] > 0.5 > wilson_interval(0.8, FEW - 1)[0]


@pytest.mark.parametrize("participants", range(2, 13))
def test_the_default_number_of_pairs_is_enough_for_everybody_and_no_more(participants):
    names, pairs = [*map(str, range(participants))], pairs_for_a_verdict(participants)
    order = draw_comparisons(names, 12, pairs)
    looks = Counter(name for c in order if not c.repeat for name in (c.left, c.right))
    assert len(order) == pairs and FEW <= min(looks.values()) == max(looks.values()) < FEW + participants - 1
    assert sum(c.repeat for c in order) == max(1, round(pairs / 6))


@pytest.mark.parametrize("wins", [8, 14])
def test_score_interval_is_over_comparisons(wins):
    """The wins in a resample of 16 comparisons are binomial, and the score follows from them."""
    ratings = [rating("base", "book", "r" if p < wins else "l", prompt=p) for p in range(16)]
    ratings += [r | {"rater": "berta"} for r in ratings]  # who agrees in everything: no new evidence
    share = wins / 16
    cumulative = np.cumsum([math.comb(16, w) * share**w * (1 - share) ** (16 - w) for w in range(17)])
    ends = np.searchsorted(cumulative, [0.025, 0.975]).tolist()
    standing = summary(ratings, ["base", "book"])["questions"]["originality"]["book"]
    assert standing["score"] == pytest.approx(two_player_score(2 * wins, 32 - 2 * wins), abs=1e-7)
    assert standing["score_ci"] == pytest.approx([two_player_score(2 * w, 32 - 2 * w) for w in ends], abs=1e-7)


def test_consistency_by_hand():
    ratings = [
        rating("base", "book", "lrt", prompt=3),
        rating("book", "base", "rrt", prompt=3, repeat=True),  # the same, the other, the same
        rating("base", "book", "lll", prompt=4, rater="berta"),
        rating("book", "base", "lll", prompt=4, rater="berta", repeat=True),  # whatever stands on the left
        rating("base", "book", "ttt", prompt=5, rater="carl"),  # no repeat
        rating("book", "base", "ttt", prompt=6, rater="carl", repeat=True),  # of nothing
    ]
    found = summary(ratings, ["base", "book"])["consistency"]
    assert found["anna"] == {"pairs": 1, "answers": 3, "same": 2, "share": 2 / 3}
    assert found["berta"] == {"pairs": 1, "answers": 3, "same": 0, "share": 0.0}
    assert found.keys() == {"anna", "berta"}


def test_alpha_of_published_examples():
    """The two worked examples for nominal data in Krippendorff (2011), Computing Krippendorff's Alpha-Reliability."""
    assert krippendorff_alpha(list(zip("0100000010", "1110010000"))) == pytest.approx(0.095, abs=5e-4)
    observers = ["123321412...", "12332241 25.3".replace(" ", ""), ".333234225" + "1.", "123324412" + "51."]
    units = [[value for value in unit if value != "."] for unit in zip(*observers)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_at_its_ends():
    assert krippendorff_alpha([["l", "l"], ["r", "r"], ["t", "t", "t"]]) == 1.0
    # Two units, each with both values: o_lr = o_rl = 2, n = 4; observed 4/4, expected 2 * 2 * 2 / (4 * 3).
    assert krippendorff_alpha([["l", "r"], ["r", "l"]]) == pytest.approx(1 - 1 / (8 / 12), abs=1e-12)
    assert krippendorff_alpha([["l", "l"], ["l", "l"]]) is None
    assert krippendorff_alpha([["l"], []]) is None


def test_agreement_is_about_texts_and_not_sides():
    ratings = [rating("base", "book", letter, prompt=p) for p, letter in enumerate("lrtl")]
    assert summary(ratings, ["base", "book"])["agreement"] is None
    swapped = [rating("book", "base", letter, prompt=p, rater="berta") for p, letter in enumerate("rlt")]
    found = summary(ratings + swapped, ["base", "book"])["agreement"]
    assert found == {question: {"comparisons": 3, "alpha": 1.0} for question in QUESTIONS}
    # What somebody says at the second look does not count.
    swapped.append(rating("book", "base", "l", prompt=0, repeat=True))
    assert summary(ratings + swapped, ["base", "book"])["agreement"] == found


# --- the order


@pytest.mark.parametrize(
    "participants, prompts, pairs", [(5, 12, 24), (2, 12, 14), (4, 12, 60), (3, 5, 9), (4, 6, 999)]
)
def test_the_order_is_balanced_and_repeats_are_swapped(participants, prompts, pairs):
    names = [f"n{i}" for i in range(participants)]
    for seed in range(25):
        order = draw_comparisons(names, prompts, pairs, seed)
        first = [c for c in order if not c.repeat]
        repeats = [c for c in order if c.repeat]
        possible = math.comb(participants, 2) * prompts
        assert len(order) == pairs if pairs < possible else len(first) == possible
        assert len(repeats) >= 1 and len(repeats) / len(order) == pytest.approx(1 / 6, abs=0.07)
        assert len({(c.prompt, frozenset((c.left, c.right))) for c in first}) == len(first)
        assert len(set(repeats)) == len(repeats)
        for counted in (first, order):
            matches = Counter(frozenset((c.left, c.right)) for c in counted)
            assert len(matches) == math.comb(participants, 2) and max(matches.values()) - min(matches.values()) <= 1
        spread = Counter(c.prompt for c in first)
        assert max(spread.values()) - min(spread[p] for p in range(prompts)) <= 1
        for at, comparison in enumerate(order):
            if comparison.repeat:
                original = (comparison.prompt, comparison.right, comparison.left, False)
                assert order.index(original) <= at - 2


def test_the_order_comes_from_the_seed():
    names = ["base", "1e-3", "1e-4", "book"]
    orders = [draw_comparisons(names, 12, 24, seed) for seed in range(200)]
    assert orders[3] == draw_comparisons(names, 12, 24, 3) and orders[3] != orders[4]
    # Sides are random: about half of the 200 x 20 times the participant named first stands on the left.
    left = sum(names.index(c.left) < names.index(c.right) for order in orders for c in order if not c.repeat)
    assert abs(left - 2000) < 5 * math.sqrt(1000)
    # And so is what comes when: the matches do not take turns.
    first = [[frozenset((c.left, c.right)) for c in order if not c.repeat][:4] for order in orders]
    assert len({order[0] for order in orders}) > 60 and sum(len(set(matches)) < 4 for matches in first) > 60
    prompts = {draw_comparisons(names, 12, 3, seed)[0].prompt for seed in range(200)}
    assert prompts == set(range(12))


def test_the_fewest_comparisons():
    for seed in range(20):
        one, _, again = draw_comparisons(["base", "book"], 2, 3, seed)
        assert again == (one.prompt, one.right, one.left, True)
    assert len(draw_comparisons(["base", "book"], 1, 24)) == 1  # nothing to put between a pair and its repeat
    with pytest.raises(ValueError, match="--pairs 2 .* use 3 or more"):
        draw_comparisons(["base", "book"], 12, 2)


# --- sessions


def continuations(name, prompts):
    rng = random.Random(name)
    return [{"pieces": [" " + rng.choice(WORDS) for _ in range(40)]} for _ in range(prompts)]


def result_of(lr, seed=0, prompts=4):
    evaluation = {"ratio": 0.5, "ratio_ci": [0.4, 0.6], "shares": [0.5]}
    return {
        "lr": lr,
        "samples": 2,
        "seed": seed,
        "train_loss": [2.0, 1.0],
        "held_out_loss": [],
        "checkpoints": [],
        "diverged": None,
        "book_ratio": 0.5,
        "book_tokens": 10,
        "held_out_tokens": 0,
        "identity": {},
        "before": evaluation | {"continuations": continuations("before", prompts)},
        "after": evaluation | {"continuations": continuations(f"after {lr} {seed}", prompts)},
        "book": {"continuations": continuations("the author", prompts)},
        "prompts": [f"Prompt number {i}: the wind" for i in range(prompts)],
        "shown": {"temperature": 0.8, "top_k": 40},
        "least_copy": 13,
        "settings": {
            "model": "tiny",
            "model_name": "tiny",
            "model_identity": {"parameters": 1000},
            "text": "text",
            "text_name": "text",
            "text_sha256": "0f",
            "raw_text": False,
            "batch_size": 2,
            "seq_len": 8,
        },
        "environment": {"seconds": {}},
    }


def write_runs(folder, *results):
    for result in results:
        run = folder / f"run-{result['lr']}-{result['seed']}"
        run.mkdir(parents=True, exist_ok=True)
        write_result(run, result)
    return folder


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


def without_time(ratings):
    return [{key: value for key, value in r.items() if key != "time"} for r in ratings]


def saved(runs):
    return without_time(read_ratings([runs / RATINGS_FILE]))


KEYS = random.Random(1).choices("lrt", k=3 * 12)


def test_a_session_and_its_ratings(runs, typed):
    code, out, err = typed(KEYS, runs, "--pairs", 12, "--rater", "anna")
    assert code == 0 and err == "" and "12 of 12 answered" in out
    contest = open_contest(find_results([runs]))
    order = draw_comparisons(["base", "1e-3", "1e-5", "book"], 4, 12, seed=0)
    assert list(contest.texts) == ["base", "1e-3", "1e-5", "book"]
    assert contest.texts["1e-5"][2] == "".join(continuations("after 1e-05 0", 4)[2]["pieces"])
    for i, (found, comparison) in enumerate(zip(saved(runs), order, strict=True)):
        assert [found["answers"][q] for q in QUESTIONS] == KEYS[3 * i : 3 * i + 3]
        assert (found["prompt"], found["left"], found["right"], found["repeat"]) == comparison
        assert found["rater"] == "anna"
        assert found["left_sha256"] == sha256(contest.texts[comparison.left][comparison.prompt])
        assert found["right_sha256"] == sha256(contest.texts[comparison.right][comparison.prompt])
    code, out, err = typed([], runs, "--pairs", 12, "--rater", "anna")
    assert code == 0 and "12 of them answered" in out and "LEFT" not in out


def test_what_is_shown_is_blind_and_on_its_side(runs, typed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    _, out, err = typed(["x", "?", *KEYS], runs, "--pairs", 12, "--rater", "anna")
    for name in ("base", "book", "before", "after", "1e-", "e-05", "0.001", "run-", "repeat", "author", "\x1b"):
        assert name not in out + err
    contest = open_contest(find_results([runs]))
    screens = re.split(r"-+ \d+ of 12 -+", out)[1:]
    for screen, comparison in zip(screens, draw_comparisons(contest.texts, 4, 12), strict=True):
        rows = [row.partition("|") for row in screen.split("\n") if "|" in row]
        for side, text in (
            (0, contest.texts[comparison.left][comparison.prompt]),
            (2, contest.texts[comparison.right][comparison.prompt]),
        ):
            words = " ".join(row[side] for row in rows).split()
            assert words == [("LEFT", None, "RIGHT")[side], *text.replace("\x1b", " ").split()]
        assert contest.prompts[comparison.prompt] in screen
        assert max(len(row) for row in screen.split("\n") if "|" in row) <= 100


@pytest.mark.parametrize("leave", ["q", "end of input", "Ctrl-C"])
def test_resumed_equals_uninterrupted(runs, tmp_path, typed, monkeypatch, leave):
    whole = write_runs(tmp_path / "whole", result_of(1e-3), result_of(1e-5))
    typed(KEYS, whole, "--pairs", 12, "--rater", "anna")
    arguments = (runs, "--pairs", 12, "--rater", "anna")
    first = [*KEYS[:8], *(["q"] if leave == "q" else [])]  # two pairs and two answers of the third
    with monkeypatch.context() as patch:
        if leave == "Ctrl-C":
            keys = iter(first)

            def pressed(_):
                for key in keys:
                    return key
                raise KeyboardInterrupt

            patch.setattr(builtins, "input", pressed)
        code, out, _ = typed(first, *arguments)
    assert code == 0 and "2 of 12 answered and saved. The same command goes on." in out
    assert saved(runs) == saved(whole)[:2]
    code, out, _ = typed(KEYS[6:], *arguments)
    assert "2 of them answered" in out and "12 of 12" in out
    assert saved(runs) == saved(whole)


def test_a_torn_last_line_is_asked_again(runs, typed):
    arguments = (runs, "--pairs", 12, "--rater", "anna")
    typed(KEYS, *arguments)
    file, whole = runs / RATINGS_FILE, saved(runs)
    content = file.read_bytes()
    for kept in (len(content) - 1, len(content) - 2, content.rstrip().rfind(b"\n") + 2):
        file.write_bytes(content[:kept])
        code, out, err = typed(KEYS[33:], *arguments)
        assert code == 0 and "12 of 12" in out
        assert ("torn" in err) == (kept < len(content) - 1)  # only the line end was missing: nothing is lost
        assert saved(runs) == whole and len(file.read_bytes().splitlines()) == 12
    file.write_bytes(b"\n".join(content.split(b"\n")[:2]))
    code, out, err = typed(KEYS[6:], *arguments)
    assert "2 of them answered" in out and err == "" and saved(runs) == whole
    file.write_bytes(content[50:])
    code, out, err = typed([], *arguments)
    assert code == 2 and err == f"error: {file}, line 1 is not a rating; delete the line\n"


def test_back_and_wrong_keys(runs, typed):
    keys = ["b", "l", "lr", "b", "r", "", "T", "l"]  # the first pair: r t l
    keys += ["t", "t", "b", "b", "b", "r"]  # of the second two answers, then back to the last of the first: r t r
    keys += ["l", "l", "l", "q"]
    _, out, _ = typed(keys, runs, "--pairs", 12, "--rater", "anna")
    assert [[r["answers"][q] for q in QUESTIONS] for r in saved(runs)] == [["r", "t", "r"], ["l", "l", "l"]]
    assert len((runs / RATINGS_FILE).read_bytes().splitlines()) == 3  # the first pair twice, the later line counts
    assert out.count("l: left, r: right") == 3  # at the start and for two wrong keys
    assert "This is the first answer." in out
    _, out, _ = typed(["b", "t", "q"], runs, "--pairs", 12, "--rater", "anna")  # back into an earlier sitting
    assert [[r["answers"][q] for q in QUESTIONS] for r in saved(runs)] == [["r", "t", "r"], ["l", "l", "t"]]


def test_raters_do_not_disturb_one_another(runs, typed):
    typed(KEYS, runs, "--pairs", 12, "--rater", "anna")
    _, out, _ = typed(KEYS[::-1], runs, "--pairs", 12, "--rater", "berta")
    assert "12 comparisons, 0 of them answered" in out
    assert Counter(r["rater"] for r in saved(runs)) == {"anna": 12, "berta": 12}
    code, out, err = typed([], runs, "--results")
    assert code == 0 and err == "" and "raters: anna, berta" in out and "few answers" in out
    assert out.count("Krippendorff's alpha") == 3 and "anna was shown 2 pairs twice" in out
    found = summary(saved(runs), ["base", "1e-3", "1e-5", "book"])
    book = found["questions"]["style"]["book"]
    row = next(line for line in out.split("\n") if line.startswith("| style | book |"))
    assert re.search(r"\n\| style \| base \|[^\n]*\) \| 0 \|\n", out)
    assert f"| {book['wins']} / {book['ties']} / {book['losses']} | {book['share']:.2f} (" in row
    assert f"| {book['score']:+.2f} ({book['score_ci'][0]:+.2f} to {book['score_ci'][1]:+.2f}) |" in row
    looks = [c for c in draw_comparisons(["base", "1e-3", "1e-5", "book"], 4, 12) if "book" in c and not c.repeat]
    assert book["wins"] + book["ties"] + book["losses"] == 2 * len(looks)


def test_ratings_of_changed_texts_are_left_out_and_asked_again(runs, typed):
    arguments = (runs, "--pairs", 12, "--rater", "anna")
    typed(KEYS, *arguments)
    changed = result_of(1e-5)
    changed["after"]["continuations"] = continuations("trained anew", 4)
    write_runs(runs, changed)
    concerned = sum("1e-5" in (r["left"], r["right"]) for r in saved(runs))
    assert 0 < concerned < 12
    _, out, err = typed([], runs, "--results")
    assert f"note: {concerned} ratings are of other texts" in err and "| style | 1e-5 | 0 / 0 / 0 |" in out
    _, out, _ = typed(3 * concerned * ["t"], *arguments)
    assert f"12 comparisons, {12 - concerned} of them answered" in out and "12 of 12" in out


def test_of_several_seeds_the_lowest_that_has_an_outcome():
    diverged = result_of(1e-3, seed=0) | {"after": None}
    results = [diverged, result_of(1e-3, seed=2), result_of(1e-3, seed=1), result_of(1e-5, seed=0)]
    for order in itertools.permutations(results):
        texts = open_contest(sorted(order, key=lambda result: -result["lr"])).texts
        assert list(texts) == ["base", "1e-3", "1e-5", "book"]
        assert texts["1e-3"][0] == "".join(continuations("after 0.001 1", 4)[0]["pieces"])


def page_data(html):
    return json.loads(re.search(r"= (\{.*\});\n", html).group(1))


def test_lines_are_joined_and_the_terminal_is_safe():
    assert readable(" the\nisland, \n \n\nand\tthe\x1b[2J\x07 ship\r\n") == "the island,\n\nand the [2J ship"
    assert readable("\n\n") == ""


def test_the_page_is_blind_and_its_answers_are_understood(runs, typed, tmp_path):
    nasty = result_of(1e-5)
    nasty["after"]["continuations"][0]["pieces"] = ["</script><script>alert(1)</script>"]
    write_runs(runs, nasty)
    file = tmp_path / "page.html"
    code, out, err = typed([], runs, "--page", file, "--pairs", 12, "--seed", 3)
    assert (code, out, err) == (0, f"{file}\n", "")
    needed = pairs_for_a_verdict(4)
    assert (
        f"A verdict needs {needed - 12} pairs more, {needed} in all" in page_data(file.read_text("utf-8"))["shortage"]
    )
    html = file.read_text(encoding="utf-8")
    for name in ("base", "book", "1e-", "e-05", "0.001", "run-", "repeat", "author", "http:", "https:"):
        assert name not in html
    assert html.count("</script>") == 1
    data = page_data(html)
    assert len(data["comparisons"]) == 12 and tuple(data["wording"]) == QUESTIONS
    lines = [
        {"rater": "berta", "seed": data["seed"], "pairs": data["pairs"], "number": number}
        | {"answers": dict(zip(data["wording"], KEYS[3 * number : 3 * number + 3]))}
        | {key: comparison[key] for key in ("left_sha256", "right_sha256")}
        for number, comparison in enumerate(data["comparisons"])
    ]
    downloaded = tmp_path / "ratings (1).jsonl"
    downloaded.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    typed(KEYS, runs, "--rater", "berta", "--pairs", 12, "--seed", 3)  # the same answers in the terminal
    contest = open_contest(find_results([runs]))
    from_page, notes = usable_ratings(read_ratings([downloaded]), contest)
    by_key = [{key: r[key] for key in sorted(r)} for r in from_page]
    assert notes == [] and by_key == [{key: r[key] for key in sorted(r)} for r in saved(runs)]
    assert [readable(contest.texts[r["left"]][r["prompt"]]) for r in from_page] == [
        c["left"] for c in data["comparisons"]
    ]
    one = typed([], runs, "--results")
    assert one == typed([], runs, "--results", "--ratings", downloaded, runs / RATINGS_FILE)  # the same ones twice
    (runs / RATINGS_FILE).unlink()
    assert one == typed([], runs, "--results", "--ratings", downloaded)
    # The order comes from the page, and the texts must be the page's.
    assert len(usable_ratings([line | {"seed": 4} for line in lines], contest)[0]) < 6
    for wrong in ({"number": 12}, {"number": -1}, {"pairs": 1}, {"seed": -1}):
        assert usable_ratings([lines[-1] | wrong], contest)[0] == []
    assert summary(read_ratings([downloaded]), list(contest.texts))["ratings"] == 0  # names are not known yet


def test_wrong_input_ends_in_one_line(tmp_path, typed):
    def error(*arguments):
        code, _, err = typed([], *arguments)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1
        return err

    other = result_of(1e-5, prompts=3)
    folder = write_runs(tmp_path / "other", result_of(1e-3), other)
    assert "the run at 1e-5 has other prompts than that at 1e-3" in error(folder)
    folder = write_runs(tmp_path / "good", result_of(1e-3))
    assert "--pairs 2" in error(folder, "--pairs", 2)
    assert f"no ratings in {folder / RATINGS_FILE}; answer some first" in error(folder, "--results")
    assert "--ratings goes with --results" in error(folder, "--ratings", "x.jsonl")
    assert not (folder / RATINGS_FILE).exists()
    good = rating("base", "book", "l") | {"left_sha256": "", "right_sha256": ""}
    page_line = {key: good[key] for key in ("rater", "answers", "left_sha256", "right_sha256")}
    for line in (
        '{"answers": {}}',
        "[]",
        "1",
        json.dumps(good | rating("base", "book", "x")),
        json.dumps(good | {"prompt": "0"}),
        json.dumps(page_line),
        json.dumps(page_line | {"number": 1, "seed": None, "pairs": 3}),
    ):
        (folder / RATINGS_FILE).write_text(f"{line}\n", encoding="utf-8")
        assert "line 1 is not a rating; delete the line" in error(folder, "--results")
    (folder / RATINGS_FILE).unlink()
    (folder / RATINGS_FILE).mkdir()
    assert error(folder)


def test_fewer_comparisons_than_asked_for_are_said(tmp_path, typed):
    folder = write_runs(tmp_path / "runs", result_of(1e-3, prompts=2))
    code, out, _ = typed(["q"], folder)
    assert code == 0 and "note: these texts allow 7 comparisons, not 22" in out  # 3 matches x 2 prompts, one again


def test_the_default_is_enough_and_less_is_said_to_be_too_little(tmp_path, typed):
    folder, file = (
        write_runs(tmp_path / "runs", result_of(1e-3, prompts=12), result_of(1e-5, prompts=12)),
        tmp_path / "p",
    )
    needed = pairs_for_a_verdict(4)
    assert typed([], folder, "--page", file)[0] == 0
    data = page_data(file.read_text(encoding="utf-8"))
    assert len(data["comparisons"]) == data["pairs"] == needed and data["shortage"] == ""
    assert "A verdict needs" not in typed(3 * needed * ["t"], folder, "--rater", "anna")[1]
    _, out, _ = typed(3 * 12 * ["t"], folder, "--rater", "berta", "--pairs", 12)
    assert out.count(f"A verdict needs {needed - 12} pairs more, {needed} in all") == 2  # first and last


def test_questions_have_their_wording():
    assert tuple(preference.WORDING) == QUESTIONS and preference.POINTS.keys() == preference.OTHER_WAY.keys()
