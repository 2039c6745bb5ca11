"""One list of columns as Markdown and in a terminal, in 80 columns whatever the numbers."""

import pytest

from evaluate.results import runs_of
from evaluate.table import (
    COLUMNS,
    Column,
    Row,
    aligned,
    columns_of,
    lines_of,
    number,
    over_seeds,
    rows_of,
    table,
    terminal_summary,
)
from evaluate.valleys import VALLEYS
from evaluate.verdicts import conclusion
from tests.evaluate.handmade import (
    diverged,
    evaluation,
    held_out_at,
    losses_of,
    nothing_held_out,
    result_of,
    with_levers,
    with_losses,
)

FALLING = [5 - 0.02 * i for i in range(100)]
TURNS = [5.0, 4.5, 4.2, 4.3, 4.6]


def rows(lines: list[str]) -> dict[str, dict[str, str]]:
    """The Markdown table in `lines`: {row: {title: cell}}."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    return {row[0]: dict(zip(cells[0], row)) for row in cells[2:]}


def table_of(*results) -> tuple[dict, str]:
    text = table(runs_of([*results]))
    return rows(text.split("\n\n")[2].split("\n")), text


def test_the_table():
    general = {"general": {"loss_increase": 0.125, "loss_increase_ci": [0.1, 0.15]}}
    after = evaluation(0.55, forgetting=evaluation()["forgetting"] | general)
    found, text = table_of(with_losses(result_of(1e-3, train_loss=FALLING, after=after), TURNS), result_of(1e-4))
    assert text.startswith("What the learning rate does to a fine-tune: gpt2 (124 million parameters) on gulliver; ")
    assert (
        "; 100 steps of 16 x 256 tokens, seed 0.\n" in text
        and " 100 steps read each training token 45.5 times. The interval of a held-out loss is for its di" in text
        and "number for the book, 0.558, is in-sample" in text
    )
    assert list(found) == ["base model", "1e-3", "1e-4", "held-out book"]
    assert found["1e-3"] == {
        "model": "1e-3",
        "training loss": "3.110",
        "held-out loss": "4.600 (4.600 to 4.600)",
        "lowest held-out loss (step)": "4.200 (20)",
        "ratio": "0.550 (0.530 to 0.570)",
        "expected with top-k 50": "0.600 (0.580 to 0.620)",
        "distinct-2": "0.700",
        "copied (%)": "0.1 (1 of 100 texts, 0.2 to 5.4 %)",
        "longest copy (tokens)": "41",
        "extraction (%)": "6.0 (5.0 to 7.0)",
        "extraction, held-out (%)": "6.0 (5.0 to 7.0)",
        "moved by (nats)": "0.050 (0.040 to 0.060)",
        "forgot (nats)": "0.125 (0.100 to 0.150)",
        "minutes": "2.0",
    }
    assert found["base model"]["training loss"] == "5.000" and found["base model"]["minutes"] == "–"
    book = found["held-out book"]
    assert [book[title] for title in ("distinct-2", "longest copy (tokens)")] == ["0.770", "14"]
    assert book["ratio"] == "0.531 (0.522 to 0.540)"
    assert book["training loss"] == book["extraction (%)"] == book["moved by (nats)"] == "–"


def test_the_answer_leads_and_every_other_sentence_follows_the_table():
    runs = runs_of([with_losses(result_of(1e-3), [4.0, 3.5]), diverged()])
    text, shown, (answer, *others) = table(runs), " ".join(terminal_summary(runs).split()), conclusion(runs)
    assert "Stopped in time, 1e-3 has the lowest loss" in answer and text.split("\n")[2] == answer
    assert f"seed 0. {answer} training held-out" in shown
    assert all(f"- {sentence}\n" in text and f"- {sentence}" in shown for sentence in others)


def test_the_end_and_the_run_stopped_in_time_stand_side_by_side():
    kept = evaluation(0.54, **losses_of(3.7))
    turned = with_losses(result_of(1e-3, train_loss=FALLING), [4.0, 3.8, 3.7, 3.9]) | {"best": kept}
    found, text = table_of(turned, result_of(1e-4))
    assert list(found) == ["base model", "1e-3", "1e-3, step 20", "1e-4", "held-out book"]
    assert list(found["1e-3, step 20"].values())[1:5] == [
        "4.630",
        "3.700 (3.700 to 3.700)",
        "–",
        "0.540 (0.520 to 0.560)",
    ]
    assert "A row with a step is" in text and "A row with a step is" not in table_of(result_of(1e-4))[1]
    ended, stopped = rows_of(runs_of([turned, result_of(1e-4)]))[1:3]
    assert stopped.verdicts == ["lowest loss"] and "lowest loss" not in ended.verdicts


def test_columns_without_numbers_are_left_out():
    assert len(columns_of(runs_of([result_of()]))) == len(COLUMNS) - 2  # no general text, drawn without top-k
    found, _ = table_of(nothing_held_out(result_of()))
    titles = [
        "model",
        "training loss",
        "ratio",
        "expected with top-k 50",
        "distinct-2",
        "copied (%)",
        "longest copy (tokens)",
        "extraction (%)",
    ]
    assert list(found["1e-4"]) == [*titles, "moved by (nats)", "minutes"]
    assert found["the book, in-sample"]["ratio"] == "0.558" and found["the book, in-sample"]["copied (%)"] == "–"
    mixed, _ = table_of(result_of(1e-3), nothing_held_out(result_of(1e-4)))
    assert mixed["1e-3"]["held-out loss"] == "4.000 (4.000 to 4.000)" and mixed["1e-4"]["held-out loss"] == "–"


@pytest.mark.parametrize(
    ("how", "shown"),
    [({}, "with top-k 50"), ({"top_k": 50}, "without top-k"), ({"temperature": 0.7}, "with top-k 50 without top-k")],
)
def test_the_ratios_that_are_expected_stand_beside_the_one_that_was_drawn(how, shown):
    found = table_of(with_levers(result_of(after=evaluation(0.65)), **how))[0]["1e-4"]
    expected = {"without top-k": "0.620 (0.600 to 0.640)", "with top-k 50": "0.700 (0.680 to 0.720)"}
    assert found["ratio"] == "0.650 (0.630 to 0.670)"
    assert [column.short for column in COLUMNS if "expected" in column.title] == ["top-k off", "top-k 50"]
    for words, cell in expected.items():
        assert found.get(f"expected {words}") == (cell if words in shown else None)


def test_where_nothing_was_copied_the_texts_are_counted():
    """Wilson's interval of 0 of 96 ends at 3.85 %."""
    none = {"copied": 0.0, "copied_shares": [0.0] * 96}
    found, _ = table_of(result_of(after=evaluation(**none)))
    assert found["1e-4"]["copied (%)"] == "0.0 (0 of 96 texts, at most 3.8 %)"


def test_the_interval_of_a_loss_is_that_of_its_change():
    """Windows of 4 nats each before, that change by -0.6, -0.5, -0.4, twice: t = 2.571, standard error 0.0365."""
    after = losses_of(3.5) | {"held_out_windows": [[3.4, 3.5, 3.6]] * 2}
    found, _ = table_of(result_of(after=evaluation(**after)))
    assert (
        found["1e-4"]["held-out loss"] == "3.500 (3.406 to 3.594)" and found["base model"]["held-out loss"] == "4.000"
    )


def test_one_text_alone_has_no_interval():
    alone = {name: None for name in evaluation() if name.endswith("_ci")} | {"shares": [0.5], "copied_shares": [0.0]}
    found, text = table_of(result_of(before=evaluation(**alone), after=evaluation(**alone)))
    assert found["1e-4"]["ratio"] == "0.500" and "a change of +0.000.\n" in text


def test_a_diverged_run_has_no_numbers():
    found, _ = table_of(result_of(1e-3), diverged())
    assert found["1e0"]["training loss"] == "diverged after step 2: no model"
    assert set(list(found["1e0"].values())[2:]) == {""}
    found, _ = table_of(diverged(losses=()))  # nothing was ever trained
    assert found["1e0"]["held-out loss"] == "diverged after step 0: no model"
    assert "training loss" not in found["1e0"] and found["base model"]["held-out loss"] == "4.000"


def test_a_loss_over_a_part_says_so():
    assert "During training" not in table(runs_of([result_of()]))
    part = result_of(held_out_tokens=50_000, held_out_on_the_way=8192)
    assert "During training only the first 8,192 of 50,000 held-out tokens are measured" in table(runs_of([part]))


def test_what_exploded_has_no_thousandths():
    assert [number(x) for x in (None, 0.1234, 9999.0, 193594.142)] == ["–", "0.123", "9999.000", "193,594"]


def test_over_the_seeds_the_verdicts_are_counted():
    """Ratios 0.50 and 0.52: mean 0.51, standard deviation 0.02 / sqrt(2); the texts' shares are 0.1 to both sides."""
    made = [result_of(1e-3, seed, train_loss=FALLING, after=evaluation(r)) for seed, r in enumerate((0.5, 0.52))]
    first, second = (with_losses(result, [5.0, 4.5, 4.2 + seed, 4.6]) for seed, result in enumerate(made))
    second["after"] |= {"copied": 0.003, "copied_shares": [0.5] * 20 + [0.0] * 80}
    found = rows(over_seeds(runs_of([first, second, result_of(1e-4)])))
    assert list(found) == ["1e-3"]  # of 1e-4 there is one
    cells = found["1e-3"]
    assert cells["seeds"] == "2" and cells["ratio"] == "0.510 sd 0.014 (0.500 to 0.520)"
    assert cells["sd of the ratio's writing"] == "0.010" and cells["copied (%)"] == "0.2 sd 0.1 (0.1 to 0.3)"
    assert cells["lowest held-out loss (step)"] == "4.350 sd 0.212 (4.200 to 4.500)"
    assert cells["held-out loss"] == "4.600 sd 0.000 (4.600 to 4.600)" and "minutes" not in cells
    assert cells["verdicts (seeds)"] == "over-fits 2/2; copies 1/2"
    other = result_of(1e-4)
    assert "lowest loss" not in "".join(over_seeds(runs_of([first, second, other, other | {"seed": 1}])))
    assert over_seeds(runs_of([first])) == []
    text = table(runs_of([first, second]))
    assert "seeds 0, 1.\n" in text and "\n".join(over_seeds(runs_of([first, second]))).strip() in text
    one_left = rows(over_seeds(runs_of([first, diverged(1e-3, seed=1)])))["1e-3"]
    assert one_left["ratio"] == "0.500" and "diverged 1/2" in one_left["verdicts (seeds)"]
    none_left = rows(over_seeds(runs_of([diverged(), diverged(seed=1)])))["1e0"]
    assert none_left["ratio"] == none_left["sd of the ratio's writing"] == "–"


def test_levers_have_rows_of_their_own_and_a_table_of_their_valleys():
    linear = with_losses(with_levers(result_of(1e-3), schedule="linear", samples=200), [4.0, 3.5])
    plain = with_losses(result_of(1e-3), [4.0, 3.8])
    found, text = table_of(linear, plain)
    assert list(found) == ["base model", "1e-3 100 steps", "1e-3 linear 200 steps", "held-out book"]
    assert (
        found["1e-3 linear 200 steps"]["held-out loss"] == "3.500 (3.500 to 3.500)"
        and found["1e-3 100 steps"]["held-out loss"] == "3.800 (3.800 to 3.800)"
    )
    assert "steps read each training token" not in text and "; steps of 16 x 256 tokens" in text
    assert "| 100 steps | 3.800 | 1e-3 | none |\n| linear 200 steps | 3.500 | 1e-3 | 1 (1e-3) |\n" in text
    assert f"\n{VALLEYS}.\n\n| lever |" in text and "| lever |" not in table_of(plain)[1]
    seeds = [
        with_levers(result | {"seed": seed}, leash=leash)
        for result in (plain, linear)
        for seed, leash in ((0, 0), (1, 2.0))
    ]
    assert over_seeds(runs_of(seeds)) == []  # there is one seed of each
    both = [*seeds, with_levers(plain, leash=2.0)]
    over = rows(over_seeds(runs_of(both)))
    assert list(over) == ["1e-3 leash 2 100 steps"] and over["1e-3 leash 2 100 steps"]["seeds"] == "2"


# In a terminal


def written(text: str) -> list[dict]:
    return [{"pieces": [text[:3], text[3:]]}, {"pieces": ["no such prompt"]}]


def test_the_terminals_table_and_texts():
    results = [result_of(3e-3, after=evaluation(0.557, continuations=written("x" * 10 + " word" * 100)))]
    results.append(diverged(3e-1))
    for result in results:
        result["prompts"][0] = "I had\n\x1b[2Jupon my back."
    lines = terminal_summary(runs_of(results)).split("\n")
    assert lines[5:10] == [
        "              training held-out lowest (step) ratio top-k 50 dist-2 copied %",
        "base model       4.000    4.000             – 0.500    0.550  0.700      0.1",
        "3e-1          diverged        –     4.000 (0)     –        –      –        –",
        "3e-3             4.000    4.000     4.000 (0) 0.557    0.607  0.700      0.1",
        "held-out book        –        –             – 0.531        –  0.770      0.0",
    ]
    few = terminal_summary(runs_of([nothing_held_out(result_of())])).split("\n")
    assert few[5].split() == [
        "training",
        "ratio",
        "top-k",
        "50",
        "dist-2",
        "copied",
        "%",
        "moved",
        "min",
    ]  # there is room
    assert lines[-8] == 'After "I had  [2Jupon my back."'
    assert lines[-7:-5] == ["base      My father was a mercer at Bideford.", "          I sailed"]
    assert lines[-5] == "3e-3      xxxxxxxxxx word word word word word word word word word word word word"
    assert lines[-3].endswith(" word ...") and lines[-2].startswith("the book  My father")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"after": None},
        {"after": None, "train_loss": []},
        {"train_loss": [10.905, 123456.7]},
        {"after": evaluation(**losses_of(98765.4), forgetting={"base_texts": {"kl": 54321.0}})},
        {"after": evaluation(continuations=written("long" * 100))},
        {"after": evaluation(continuations=written("\x1b[2J\r\n" + "a line\n" * 40))},
        {"after": evaluation(continuations=written(""))},
        {"best": evaluation()} | held_out_at([[0, 4.0], [100, 3.5]]),
        {"lever": {"schedule": "cosine", "leash": 2.5}},
    ],
)
def test_nothing_is_wider_than_the_terminal(changes):
    lever, changes = changes.get("lever", {}), {name: value for name, value in changes.items() if name != "lever"}
    results = [result_of(lr, seed, **changes) for lr in (2.5e-10, 1e30) for seed in (8, 10)]
    results += [with_levers(result, **lever) for result in results[:1] if lever]
    text = terminal_summary(runs_of(results))
    assert max(map(len, text.split("\n"))) <= 80
    assert not set(text) & {"\r", "\x1b", "\t"}
    head, *lines = text.split("\n\n")[2].split("\n")
    shown = [row for row in lines if row.startswith(("2.5e-10, seed ", "1e30, seed "))]
    assert len(shown) == (8 if "best" in changes else 4)
    assert all(("diverged" in row) == (changes.get("after", "") is None) for row in shown)
    assert "ratio" in head


def test_lines_flow_where_the_book_is_wrapped_and_stay_where_it_is_not():
    verse = "Sing,\n   of the\x1b[2J ship,\n\n\tand rope"
    assert lines_of(verse, True, 40) == ["Sing,    of the [2J ship,", "", "    and rope"]
    assert lines_of(verse, False, 40) == ["Sing,", "   of the [2J ship,", "", "    and rope"]
    assert lines_of("می\u200cخواهم\u3000家", False, 40) == ["می\u200cخواهم\u3000家"]  # no blank may part a word
    assert lines_of("", True, 9) == [""] and lines_of("the island and the ship", False, 10) == [
        "the island",
        "and the",
        "ship",
    ]


def test_a_terminal_of_80_columns_is_filled_and_not_exceeded():
    column = Column("ratio", lambda row: 0.5, short="ratio")
    for label, kept in (("x" * 74, True), ("x" * 75, False)):  # "0.500" and a space have six columns
        assert aligned([Row(label, {"ratio": 0.5})], [column])[1].endswith("0.500") == kept
