"""The page: whole, closed off from every network, with everything escaped, and with the figures of its results."""

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from evaluate.report import page as report
from evaluate.report.__main__ import main
from evaluate.report.captions import caption
from evaluate.report.tables import number
from evaluate.report.texts import flowing
from evaluate.report.titles import FIGURE_FILE
from evaluate.results import find_results, lr_label, write_result

# The smallest picture there is: what is drawn is test_evaluate.py's business.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
NASTY = """<script>alert("it's")</script> & so on"""
WORDS = ["My", " father", " was", " a", " mercer", "\n", "at", " Bideford", ".", "\n", "\n", "I", " sailed"]


def continuation(copies=()):
    return {"pieces": WORDS, "frequent": [word in (" was", " a", ".") for word in WORDS], "copies": list(copies)}


def evaluation(ratio, loss, continuations):
    interval = {"kl": 0.25, "kl_ci": [0.2, 0.3], "loss_increase": 0.2, "loss_increase_ci": [0.1, 0.3]}
    return {
        "ratio": ratio,
        "ratio_ci": [ratio - 0.02, ratio + 0.02],
        "shares": [ratio - 0.1, ratio + 0.1] * 50,
        "texts": [NASTY, "a second text"],
        "untruncated_ratio": ratio - 0.03,
        "untruncated_shares": [ratio - 0.13, ratio + 0.07] * 50,
        "expected_ratio": ratio + 0.001,
        "expected_ratio_ci": [ratio - 0.01, ratio + 0.01],
        "letters_ratio": 0.4,
        "letters_ratio_ci": [0.39, 0.41],
        "divergence": 0.0123,
        "divergence_ci": [0.011, 0.013],
        "copied": 0.25,
        "copied_ci": [0.2, 0.3],
        "longest_copy": {"tokens": 41, "passage": f"longest {NASTY}", "position": 7},
        "novelty": [0.1 * n for n in range(10)],
        "extraction": {"training": 0.5, "training_ci": [0.4, 0.6], "held_out": 0.1, "held_out_ci": [0.0, 0.2]},
        "distinct": [0.2, 0.7, 0.9],
        "repeated": 0.01,
        "base_perplexity": 33.3,
        "held_out": {"loss": loss, "perplexity": 1.0},
        "forgetting": {"base_texts": interval},
        "weight_change": {"wte": 0.1, "wpe": 0.1, "h.0": 0.2, "ln_f": 0.0},
        "continuations": continuations,
    }


def result_of(lr, seed=0, **changes):
    copied = [{"start": 1, "tokens": 4, "passage": f"said {NASTY}"}, {"start": 3, "tokens": 4, "passage": "the second"}]
    after = evaluation(0.5, 3.0 + lr, [continuation(copied), continuation()])
    book = {"ratio": 0.531, "letters_ratio": 0.4, "divergence": 0.003, "copied": 0.0, "distinct": [0.2, 0.77, 0.9]}
    book |= {"novelty": [0.1 * n for n in range(10)], "repeated": 0.004, "base_perplexity": 48.0}
    return {
        "lr": lr,
        "samples": 40,
        "seed": seed,
        "train_loss": [4 - 0.01 * i for i in range(40)],
        "held_out_loss": [[0, 4.0], [20, 3.5], [40, 3.0 + lr]],
        "before": evaluation(0.4, 4.0, [continuation(), continuation()]),
        "after": after,
        "book_ratio": 0.558,
        "book_tokens": 1000,
        "held_out_tokens": 100,
        "diverged": None,
        "identity": {},
        "shown": {"temperature": 0.8, "top_k": 40},
        "least_copy": 13,
        "prompts": [f"prompt {NASTY}", "another prompt"],
        "checkpoints": [{"sample": s, "held_out_loss": 4.0, "kl": 0.1, "copied": 0.0} for s in (0, 20, 40)],
        "book": book | {"continuations": [continuation(), continuation()]},
        "settings": {
            "model": "lilliput",
            "model_name": "lilliput",
            "model_identity": {"name": "lilliput", "parameters": 4_300_000, "sha256": "ab" * 32},
            "text": "voyage",
            "text_name": "voyage",
            "text_sha256": "cd" * 32,
            "text_notes": [f"note {NASTY}"],
            "raw_text": False,
            "batch_size": 8,
            "seq_len": 128,
            "temperature": 1.0,
            "top_k": 0,
            "lr": lr,
            "seed": seed,
        },
        "environment": {"python": "3.11.2", "device_name": NASTY, "seconds": {"training": 60.0, "after": 30.0}},
    } | changes


def sweep(folder, results):
    for result in results:
        run = folder / f"lr-{lr_label(result['lr'])}-{result['seed']}"
        run.mkdir(parents=True)
        write_result(run, result)
    return folder


@pytest.fixture
def folder(tmp_path):
    gone = result_of(1.0, after=None, train_loss=[4.0, 9.0], held_out_loss=[[0, 4.0]])
    return sweep(tmp_path / "sweep", [result_of(1e-3), result_of(1e-4), gone])


class Page(HTMLParser):
    """Reads a page; any tag that is not closed in its place fails."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(autouse=True)
def plain_pictures(monkeypatch, request):
    """Drawing takes a second a page; those who look at the figures ask for `drawn`."""

    def plot_all(results, folder):
        (folder / FIGURE_FILE).write_bytes(base64.b64decode(PIXEL))
        return [folder / FIGURE_FILE]

    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("evaluate.report.plots.plot_all", plot_all)


@pytest.fixture
def drawn():
    """The figures are those of evaluate.plot."""


def write(tmp_path, *folders):
    html = report.write_report(folders, tmp_path / "page.html").read_text(encoding="utf-8")
    return html, Page(html)


def test_the_page_is_whole_and_closed_off(folder, tmp_path, drawn):
    html, page = write(tmp_path, folder)
    assert not re.search(r"https?://|@import|url\(", html)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    sources = [attributes for _, attributes in page.tags if "src" in attributes]
    assert len(sources) == 6 and all(a["src"].startswith("data:image/png;base64,iVBOR") for a in sources)
    assert all(a["alt"] for a in page.all("img"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    described = {a["aria-describedby"] for a in page.all("mark") if "aria-describedby" in a}
    assert described <= set(ids) and len(described) == 4  # two copies at each of two rates
    assert "default-src 'none'" in page.all("meta")[2]["content"]


def test_everything_is_escaped(folder, tmp_path):
    html, page = write(tmp_path, folder)
    assert "<script" not in html and 'alert("' not in html
    text = "".join(page.text)
    for place in ("prompt ", "said ", "longest ", "note "):
        assert place + NASTY in text  # and it can be read as it was


def rows(page_html):
    """The cells of the first table, as text."""
    table = re.search(r"<table.*?</table>", page_html, re.S)[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in re.findall(r"<tr.*?</tr>", table, re.S)]
    return [[re.sub(r"<[^>]*>", " ", cell).strip() for cell in row] for row in cells]


def test_the_table_has_base_runs_and_book(folder, tmp_path):
    html, page = write(tmp_path, folder)
    titles, base, gone, large, small, book = rows(html)
    assert [row[0] for row in (base, gone, large, small, book)] == [
        "base model",
        "1e0",
        "1e-3",
        "1e-4",
        "the book, held-out part",
    ]
    assert base[1:4] == ["4.000 (54.6)", "0.400 0.380 to 0.420  expected 0.401", "0.0123 0.0110 to 0.0130"]
    assert large[4:7] == ["25.0 % 20.0 % to 30.0 %", "0.250 0.200 to 0.300", "1.0 % / 0.700"]
    assert gone[1] == "diverged after sample 2: there is no model to measure" and "diverged after sample 2" in gone[2]
    assert "fits best" in small[7] and "forgets" in small[7] and "fits best" not in large[7]
    assert book[1:7] == ["–", "0.531", "0.0030", "0.0 %", "–", "0.4 % / 0.770"]
    text = "".join(page.text)
    assert "1e0 diverged after sample 2" in text and "Diverged, and wrote nothing: 1e0." in text


def test_copies_and_frequent_tokens_are_marked(tmp_path):
    copies = [{"start": 3, "tokens": 4, "passage": "second"}, {"start": 1, "tokens": 4, "passage": "first"}]
    copies.append({"start": 2, "tokens": 2, "passage": "inside the first"})
    result = result_of(1e-3)
    result["after"]["continuations"] = [continuation(copies), continuation()]
    page, _ = write(tmp_path, sweep(tmp_path / "copies", [result]))
    html = re.search(r'<article><h4>1e-3</h4><p class="text">(.*?)</p></article>', page, re.S)[1]
    first, second = re.findall(r"<mark[^>]*>(.*?)</mark>", html)
    assert first == ' father<span class="frequent"> was a</span> mercer' and second == " at"
    assert "The book: … first …" in html and "The book: … second …" in html and "inside" not in html
    visible = re.sub(r"<[^>]*>", "", re.sub(r'<span id="copy-.*?</span>', "", html))
    assert visible == "My father was a mercer at Bideford.\n\nI sailed"


def test_single_line_ends_flow_and_empty_lines_stay():
    assert flowing("\na\nb\n\nc\n") == " a b\n\nc " and flowing("") == ""


def test_without_a_held_out_part_the_book_still_speaks(tmp_path):
    result = result_of(1e-3, held_out_loss=[], book={"continuations": [continuation(), continuation()]})
    for when in ("before", "after"):
        result[when] |= {"held_out": None}
        result[when]["extraction"] |= {"held_out": None, "held_out_ci": None}
    html, page = write(tmp_path, sweep(tmp_path / "all", [result]))
    assert html.count("<h4>the book</h4>") == 2 and rows(html)[-1][:3] == ["the book", "–", "0.558"]
    assert [row[1] for row in rows(html)[1:]] == ["–", "–", "–"]
    text = "".join(page.text)
    assert "Not judged" in text and "loses variety (1e-3): distinct is not in the result" in text


SEEDS = ["1e-3, seed 0", "1e-3, seed 1", "1e-4, seed 0", "1e-4, seed 1"]


def test_sweeps_with_other_luck_have_base_models_of_their_own(tmp_path):
    one = sweep(tmp_path / "one", [result_of(1e-3), result_of(1e-4)])
    others = [result_of(1e-3, 1), result_of(1e-4, 1)]
    for result in others:
        result["before"] = result["before"] | {"shares": [0.2, 0.6] * 50}
    two = sweep(tmp_path / "two", others)
    html, _ = write(tmp_path, one, two, one)  # the first twice: each run counts once
    assert [row[0] for row in rows(html)[1:-1]] == ["base model, seed 0", "base model, seed 1", *SEEDS]
    assert html.count("<h3>Runs from the base model, seed ") == 2 and "1e-4 to 1e-3, with 2 seeds;" in html
    assert "differ in more" not in html
    # two prompts, and for each of the two base models it, its two runs and the book
    assert html.count("<article>") == 2 * 2 * 4 and html.count("<h4>1e-4, seed 1</h4>") == 2


def test_the_seeds_of_one_sweep_share_the_base_model(tmp_path):
    folder = sweep(tmp_path / "seeds", [result_of(lr, seed) for lr in (1e-3, 1e-4) for seed in (0, 1)])
    html, _ = write(tmp_path, folder)
    assert [row[0] for row in rows(html)[1:-1]] == ["base model", *SEEDS]
    assert "Runs from" not in html and html.count("<article>") == 2 * 6


def test_the_best_learning_rate_is_named_at_its_finished_runs(tmp_path):
    gone = result_of(1e-4, 1, after=None, train_loss=[4.0, 9.0], held_out_loss=[[0, 4.0]])
    html, _ = write(tmp_path, sweep(tmp_path / "half", [result_of(1e-3), result_of(1e-4), gone]))
    assert [(row[0], "fits best" in row[-1]) for row in rows(html)[2:-1]] == [
        ("1e-3, seed 0", False),
        ("1e-4, seed 0", True),
        ("1e-4, seed 1", False),
    ]


def test_whether_a_difference_is_chance(folder, tmp_path):
    html, _ = write(tmp_path, folder)
    text = html[html.index("Are the differences chance?") : html.index("The rules behind them")]
    assert "Ratio at 1e-3 against 1e-4: +0.000 (+0.000 to +0.000), within the luck of the writing." in text
    assert "run with one seed" in html and "over the seeds" not in html
    seeds = [result_of(lr, seed) for lr in (1e-3, 1e-4) for seed in (0, 1)]
    html, _ = write(tmp_path, sweep(tmp_path / "seeds", seeds))
    text = html[html.index("Are the differences chance?") : html.index("The rules behind them")]
    assert "Held-out loss at 1e-3 against 1e-4, over the seeds: +0.001" in text and "run with one seed" not in html
    alone = sweep(tmp_path / "alone", [result_of(1e-3)])
    assert "differences chance" not in write(tmp_path, alone)[0]


def test_novelty_stands_beside_the_books(folder, tmp_path):
    html, _ = write(tmp_path, folder)
    titles, base, _, large, *_, book = rows(html[html.rindex("<table", 0, html.index("<caption>Novelty")) :])
    assert titles[1:] == [f"n = {n}" for n in range(1, 11)]
    assert base[1:] == large[1:] == book[1:] == [f"{10 * n:.1f}" for n in range(10)]
    short = result_of(1e-5)
    short["after"]["novelty"] = [0.5, 1.0]  # its texts were of two tokens
    html, _ = write(tmp_path, sweep(tmp_path / "short", [short]))
    assert rows(html[html.rindex("<table", 0, html.index("<caption>Novelty")) :])[2][1:4] == ["50.0", "100.0", "–"]


def test_what_exploded_has_no_thousandths():
    assert [number(x) for x in (None, 0.1234, 9999.0, 193594.142)] == ["–", "0.123", "9999.000", "193,594"]


def test_what_else_differs_is_said(tmp_path):
    other = result_of(1e-4)
    other["settings"]["batch_size"] = 16
    html, _ = write(tmp_path, sweep(tmp_path / "mixed", [result_of(1e-3), other]))
    assert "differ in more than learning rate and seed: batch_size." in html


def test_how_it_was_made(folder, tmp_path):
    html, page = write(tmp_path, folder)
    for result in folder.glob("*/result.json"):
        assert hashlib.sha256(result.read_bytes()).hexdigest() in html
    assert "runs of at least 13 tokens" in html
    assert "ab" * 32 in html and "cd" * 32 in html and "3.11.2" in html and "1.5 (training 1.0, after 0.5)" in html


def test_what_it_teaches_comes_first_and_the_rest_opens_with_a_click(folder, tmp_path, drawn):
    html, page = write(tmp_path, folder)
    order = ["was trained on voyage for 40 samples", "<h2>The answer", "<h2>What the exercise sees, and what it hides"]
    order += [
        "<strong>What the exercise sees.",
        "<strong>What it hides.",
        "One row for each model",
        "<h2>What they wrote",
    ]
    order += [
        "<h4>the book</h4>",
        "<strong>The valley",
        "Further figures",
        "The rules behind them",
        "What these numbers",
    ]
    order += ["How it was made"]
    places = [html.index(words) for words in order]
    assert places == sorted(places) and len(set(places)) == len(order)
    for words in order[8:]:  # each is in an element that is closed
        before = html[: html.index(words)]
        last = before.rindex("<details")
        assert last > before.rindex("</details>") and before[last:].startswith('<details id="')
    assert "<details id" not in html[: places[8]].replace('<details id="others">', "")


def test_captions_say_what_to_see_in_the_figures(folder, tmp_path, drawn):
    text = " ".join("".join(write(tmp_path, folder)[1].text).split())
    assert "The training loss begins at 4.000 and is, over the last tenth, 3.625 at 1e-3 and 3.625 at 1e-4." in text
    assert "The ratio was 0.400 before and is 0.500 at 1e-3 and 0.500 at 1e-4." in text and "Diverged" in text
    assert "begins at 4.000: at 1e-3 it falls to the end, to 3.001; at 1e-4 it falls to the end, to 3.000." in text
    assert "By this figure 1e-4 ends best." in text and "at the end it is -0.624 at 1e-3 and -0.625 at 1e-4" in text


def test_captions_of_all_kinds_of_runs():
    turning = result_of(1e-3, held_out_loss=[[0, 4.0], [20, 3.5], [40, 3.8]], train_loss=[4.0] * 40)
    other = turning | {"seed": 1, "held_out_loss": [[0, 4.0], [20, 3.9], [40, 3.6]]}
    spoilt = result_of(1e-2, held_out_loss=[[0, 4.0], [20, 4.5], [40, 4.8]])
    found = caption("held_out_loss", [spoilt, turning, other])
    assert "at 1e-2 it is never again as low as before the first step and ends at 4.800" in found
    assert "at 1e-3 it is lowest at samples 20 to 40 with 3.550 and ends at 3.700" in found
    assert "By this figure 1e-3 ends best." in found
    never = turning | {"held_out_loss": [[0, 4.0], [20, 4.4], [40, 4.2]]}
    assert "at 1e-3 it is lowest at samples 0 to 20 with 3.750" in caption("held_out_loss", [turning, never])
    assert "worse than before the training: 1e-2." in caption("final_held_out_loss", [spoilt, turning, other])
    # 1e-2 has the lower loss; its ratio by its own probabilities, 0.58, is farther from 0.558 than 0.55.
    spoilt["after"]["untruncated_ratio"], turning["after"]["untruncated_ratio"] = 0.58, 0.55
    assert "lowest at 1e-2; the ratio ends nearest to the book's 0.558 at 1e-3." in caption(
        "learning_rates", [spoilt, turning]
    )
    spoilt["after"]["untruncated_ratio"] = 0.556
    assert "By this figure alone 1e-2 would be the best" in caption("learning_rates", [spoilt, turning])
    alone = caption("learning_rates", [turning])
    assert "best" not in alone and "nearest" not in alone
    turning["settings"]["top_k"] = 50
    assert "Only the marks (without top-k) can be held against the book's 0.558: 0.550 at 1e-3." in caption(
        "learning_rates", [turning]
    )
    gone = result_of(1.0, after=None, train_loss=[4.0, 9.0], held_out_loss=[[0, 4.0]])
    assert caption("learning_rates", [gone]) == "Diverged, with nothing to show after: 1e0."
    at_once = gone | {"train_loss": []}
    assert "The training loss begins at 4.000" in caption("learning_rates", [at_once, turning])
    assert caption("held_out_loss", [gone]) == caption("copying", [gone]) == ""
    assert "moved by 0 to 20 % at 1e-3" in caption("weight_change", [result_of(1e-3)])


def test_headings_link_to_what_they_mean(folder, tmp_path):
    html, page = write(tmp_path, sweep(tmp_path / "seeds", [result_of(1e-3, seed) for seed in (0, 1)]))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [attributes["href"] for attributes in page.all("a")]
    assert len(links) > 20 and all(link.startswith("#") and link[1:] in ids for link in links)
    titles = re.findall(r'<th scope="col">(.*?)</th>', html)
    plain = {title for title in titles if not title.startswith("<a")}
    names = {"model", "run", "file", "sha256", "minutes", "learning rate", "seeds", *(f"n = {n}" for n in range(1, 11))}
    assert plain <= names


def test_over_the_seeds_there_is_a_table(tmp_path):
    folder = sweep(tmp_path / "seeds", [result_of(lr, seed) for lr in (1e-3, 1e-4) for seed in (0, 1)])
    html, _ = write(tmp_path, folder)
    titles, large, small = rows(html[html.rindex("<table", 0, html.index("<caption>Over the seeds")) :])
    assert titles[:4] == ["learning rate", "seeds", "training loss, last tenth", "ratio"]
    assert large[:2] == ["1e-3", "2"] and large[3] == "0.500 sd 0.000 (0.500 to 0.500)"
    assert "<caption>Over the seeds" not in write(tmp_path, sweep(tmp_path / "one", [result_of(1e-3)]))[0]


def test_a_ratio_with_top_k_stands_beside_one_without(tmp_path):
    result = result_of(1e-3)
    result["settings"]["top_k"] = 50
    _, base, run, book = rows(write(tmp_path, sweep(tmp_path / "top", [result]))[0])
    assert base[2].endswith("without top-k 0.370") and run[2].endswith("without top-k 0.470")
    assert "without" not in book[2]
    result["settings"] |= {"top_k": 0, "temperature": 0.8}
    assert rows(write(tmp_path, sweep(tmp_path / "cold", [result]))[0])[2][2].endswith("at temperature 1 0.470")


def test_it_says_how_texts_were_drawn_and_what_counts_as_a_copy(tmp_path):
    results = [result_of(1e-3, least_copy=17), result_of(1e-4)]
    text = " ".join("".join(write(tmp_path, sweep(tmp_path / "plain", results))[1].text).split())
    assert "with the same luck (temperature 0.8, among the 40 likeliest tokens)" in text
    assert "runs of at least 17 tokens" in text
    whole = result_of(1e-3, shown={"temperature": 1.0, "top_k": 0})
    assert "(temperature 1, among all tokens)" in write(tmp_path, sweep(tmp_path / "all", [whole]))[0]


def test_as_it_learns(tmp_path):
    """Two prompts, two learning rates, three samples; what is copied on the way is marked."""

    def run(lr, seed=0):
        copied = continuation([{"start": 1, "tokens": 4, "passage": f"passage at {lr}, seed {seed}"}])
        checkpoints = [{"sample": s, "continuations": [continuation(), copied]} for s in (0, 20, 40)]
        return result_of(lr, seed, checkpoints=[checkpoints[0], {"sample": 10, "held_out_loss": 4.0}, *checkpoints[1:]])

    folder = sweep(tmp_path / "way", [run(1e-3), run(1e-3, 1), run(1e-4), result_of(1e-5)])
    html, page = write(tmp_path, folder)
    section = html[html.index("<h3>As it learns") : html.index("<h3>Side by side")]
    samples = Counter(re.findall(r"<h5>sample (\d+)", section))
    assert samples == {"0": 4, "20": 4, "40": 4}  # of two seeds the first
    assert re.findall(r"<h4>(.*?)</h4>", section) == ["1e-3", "1e-4"] * 2
    assert section.count("passage at 0.001, seed 0") == section.count("passage at 0.0001, seed 0") == 3
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "As it learns" not in write(tmp_path, sweep(tmp_path / "none", [result_of(1e-3)]))[0]


def rating(left, right, letter):
    """Of two texts after the first prompt; Reader & Co always give the same answer."""
    sha256 = [hashlib.sha256(text.encode()).hexdigest() for text in (left, right)]
    sides = {"left_sha256": sha256[0], "right_sha256": sha256[1]}
    answers = dict.fromkeys(("coherence", "style", "originality"), letter)
    return json.dumps({"rater": "<Reader & Co>", "prompt": 0, "answers": answers} | sides) + "\n"


def test_ratings_are_shown_where_there_are_any(tmp_path):
    results = [result_of(1e-3), result_of(1e-4)]
    for result in results:  # each participant writes its own name
        for key, text in (("before", "base"), ("after", f"{result['lr']}"), ("book", "the author")):
            result[key]["continuations"][0] = {"pieces": [text], "frequent": [False], "copies": []}
    folder = sweep(tmp_path / "rated", results)
    assert 'id="ratings"' not in write(tmp_path, folder)[0]
    changed = rating("base", "another text", "l")
    given = [rating("base", "0.0001", "r"), rating("0.0001", "0.001", "l"), rating("base", "the author", "t")]
    (folder / "ratings.jsonl").write_text("".join([*given, changed]), encoding="utf-8")
    html, page = write(tmp_path, folder)
    shown = rows(html[html.index('id="ratings"') :])
    assert [row[:2] for row in shown[1:]] == [
        ["base", "25 % (3 to 80 %); 0 / 1 / 1"],  # half a point of two
        ["1e-3", "0 % (0 to 79 %); 0 / 0 / 1"],
        ["1e-4", "100 % (34 to 100 %); 2 / 0 / 0"],
        ["book", "50 % (5 to 95 %); 0 / 1 / 0"],
    ]
    text = "".join(page.text)
    assert "3 different comparisons" in text and "<Reader & Co>" in text
    assert "A verdict needs 24 pairs" in text and "other texts now: 1." in text
    (folder / "ratings.jsonl").write_text(changed, encoding="utf-8")
    assert "No ratings of these texts yet" in "".join(write(tmp_path, folder)[1].text)


def test_ratings_of_runs_with_other_prompts_cannot_be_shown(tmp_path):
    folder = sweep(tmp_path / "mixed", [result_of(1e-3), result_of(1e-4, prompts=["one", "two"])])
    (folder / "ratings.jsonl").write_text(rating("one text", "another", "r"), encoding="utf-8")
    text = "".join(write(tmp_path, folder)[1].text)
    assert "The ratings cannot be shown: the run at 1e-4 has other prompts" in text


def test_the_command_and_its_errors(folder, tmp_path, command):
    code, out, _ = command(main, folder)
    assert code == 0 and out.strip() == str(folder / "report.html") and len(find_results([folder])) == 3
    assert sorted(file.name for file in folder.iterdir() if file.is_file()) == ["report.html"]
    assert command(main, folder, "--out", tmp_path / "here.html")[0] == 0 and (tmp_path / "here.html").is_file()
    again = sweep(tmp_path / "again", [result_of(1e-3)])
    for arguments, words in (
        ([tmp_path / "nowhere"], "no result.json"),
        ([folder, "--out", tmp_path / "no" / "page.html"], "No such file"),
        ([folder, again], "second run at 1e-3 with seed 0"),
    ):
        code, _, err = command(main, *arguments)
        assert code == 2 and err.count("\n") == 1 and words in err
