"""What a command says at its end: the numbers of the results, in 80 columns whatever they are."""

import pytest

from evaluate.report import closing as module
from evaluate.report.closing import closing


@pytest.fixture(autouse=True)
def answered(monkeypatch):
    """The sentences are the table's own business."""
    monkeypatch.setattr(module, "answer", lambda results: [f"- sentence {'of many words ' * 12}".rstrip()])


def written(ratio, text):
    return {"ratio": ratio, "continuations": [{"pieces": [text[:3], text[3:]]}, {"pieces": ["no such prompt"]}]}


def result_of(lr, seed=0, losses=(3.861, 1.893), held_out=((0, 3.742), (55, 3.662), (100, 3.716)), after="a text"):
    return {
        "lr": lr,
        "seed": seed,
        "samples": 2,
        "train_loss": list(losses),
        "held_out_loss": [list(pair) for pair in held_out],
        "before": written(0.431, "before it"),
        "after": None if after is None else written(0.557, after),
        "book": {"continuations": [{"pieces": ["the book's"]}]},
        "prompts": ["I had\n\x1b[2Jupon my back.", "another"],
        "book_ratio": 0.535,
        "settings": {
            "model_name": "lilliput",
            "model_identity": {"parameters": 4.27e6},
            "text_name": "voyage",
            "raw_text": False,
            "batch_size": 4,
            "seq_len": 128,
            "top_k": 0,
            "temperature": 1.0,
        },
        "environment": {"seconds": {"before": 3.0, "training": 6.0, "after": 3.0}},
    }


def test_the_table_and_the_texts():
    lines = closing([result_of(3e-3), result_of(3e-5, after="x" * 10 + " word" * 100)]).split("\n")
    assert lines[3:7] == [
        "               training      held-out                   ratio",
        "learning rate  first   last  first  lowest (at)   last  before  after  min",
        "3e-3           3.861  1.893  3.742   3.662 (55)  3.716   0.431  0.557  0.2",
        "3e-5           3.861  1.893  3.742   3.662 (55)  3.716   0.431  0.557  0.2",
    ]
    assert "own ratio: 0.535." in " ".join(lines) and "without top-k" not in " ".join(lines)
    assert lines[-7:-3] == [
        'After "I had [2Jupon my back."',
        "before    before it",
        "3e-3      a text",
        "3e-5      xxxxxxxxxx word word word word word word word word word word word word",
    ]
    assert lines[-2].endswith(" word ...") and lines[-1] == "the book  the book's"


def test_a_ratio_with_top_k_is_not_held_against_the_books():
    result = result_of(3e-3)
    result["settings"]["top_k"] = 50
    assert (
        "the book's own ratio: 0.535, which only a ratio without top-k" in " ".join(closing([result]).split()).lower()
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"after": None},
        {"after": None, "losses": ()},
        {"held_out": ()},
        {"losses": (10.905, 123456.7), "held_out": ((0, 10.905), (800, 98765.4))},
        {"after": "long" * 100},
        {"after": "\x1b[2J\r\n" + "a line\n" * 40},
        {"after": ""},
    ],
)
def test_nothing_is_wider_than_the_terminal(changes):
    results = [result_of(lr, seed, **changes) for lr in (2.5e-10, 1e30) for seed in (8, 10)]
    text = closing(results)
    assert max(map(len, text.split("\n"))) <= 80
    assert not set(text) & {"\r", "\x1b", "\t"}
    rows = [row for row in text.split("\n")[:12] if row.startswith(("2.5e-10, seed ", "1e30, seed "))]
    assert len(rows) == 4
    for row in rows:
        assert ("diverged" in row) == (changes.get("after", "") is None)
