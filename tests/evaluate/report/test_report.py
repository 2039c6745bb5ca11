"""The page: whole, closed off from every network, with everything escaped, and with the numbers of its results."""

import base64
import hashlib
import json
import re
from collections import Counter
from html import unescape
from html.parser import HTMLParser

import pytest

from evaluate.report import page as report
from evaluate.report.__main__ import main
from evaluate.results import FIGURE_FILE, find_runs, runs_of
from evaluate.table import flowing, over_seeds
from evaluate.verdicts import RULES, conclusion
from tests.evaluate import handmade
from tests.evaluate.handmade import continuation, diverged, evaluation, nothing_held_out, with_losses, write_runs

# The smallest picture there is: what is drawn is test_plots.py's business.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
NASTY = """<script>alert("it's")</script> & so on"""


def result_of(lr, seed=0, **changes):
    """A run that copies, with odd characters in all that is shown of it."""
    copied = [{"start": 1, "tokens": 4, "passage": f"said {NASTY}"}, {"start": 3, "tokens": 4, "passage": "the second"}]
    longest = {"tokens": 41, "passage": f"longest {NASTY}", "position": 7}
    shown = {"continuations": [continuation(copied), continuation()], "longest_copy": longest}
    after = evaluation(0.52, copied=0.25, copied_shares=[1.0] * 24 + [0.0] * 72, **shown)
    result = handmade.result_of(lr, seed, after=after, prompts=[f"prompt {NASTY}", "another prompt"])
    result["settings"]["text_notes"] = [f"note {NASTY}"]
    result["environment"]["device_name"] = NASTY
    return with_losses(result, [4.0, 3.5, 3.0 + lr]) | changes


@pytest.fixture
def folder(tmp_path):
    gone = result_of(1.0, after=None, train_loss=[4.0, 9.0], held_out_loss=[[0, 4.0]])
    return write_runs(tmp_path / "sweep", result_of(1e-3), result_of(1e-4), gone)


class Page(HTMLParser):
    """Reads a page; any tag that is not closed in its place fails."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(html)
        assert self.open == []
        ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        self.ids, self.words = set(ids), " ".join("".join(self.text).split())
        assert len(ids) == len(self.ids)

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

    def plot_all(runs, folder):
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
    assert len(sources) == 4 and all(a["src"].startswith("data:image/png;base64,iVBOR") for a in sources)
    assert all(a["alt"] for a in page.all("img"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    described = {a["aria-describedby"] for a in page.all("mark") if "aria-describedby" in a}
    assert described <= page.ids and len(described) == 4  # two copies at each of two rates
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
    titles, *found = rows(html)
    assert [row[0] for row in found] == ["base model", "1e0", "1e-3", "1e-4", "held-out book"]
    base, gone, large, small, book = (dict(zip(titles, row)) for row in found)
    assert [large[title] for title in ("held-out loss", "ratio", "copied (%)", "minutes")] == [
        "3.001 3.001 to 3.001",
        "0.520 0.500 to 0.540",
        "25.0 24 of 96 texts, 17.4 to 34.5 %",
        "2.0",
    ]
    assert base["held-out loss"] == "4.000" and base["verdicts"] == book["training loss"] == "–"
    assert book["ratio"] == "0.531 0.522 to 0.540" and small["distinct-2"] == "0.700"
    assert found[1][1] == "diverged after step 2: no model" and "diverged after step 2" in found[1][2]
    assert (
        "lowest loss" in small["verdicts"] and "copies" in small["verdicts"] and "lowest loss" not in large["verdicts"]
    )
    assert "Diverged, and wrote nothing: 1e0." in "".join(page.text)


def test_the_answer_is_the_conclusion(folder, tmp_path):
    """The same sentences as in the table and the terminal, and every rule in words."""
    text = write(tmp_path, folder)[1].words
    assert all(sentence in text for sentence in conclusion(find_runs([folder])))
    assert all(rule.name in text and rule.words in text for rule in RULES)
    assert "run with one seed" in text and "Over the seeds" not in text


def test_over_the_seeds_there_is_a_table(tmp_path):
    results = [result_of(lr, seed) for lr in (1e-3, 1e-4) for seed in (0, 1)]
    html, _ = write(tmp_path, write_runs(tmp_path / "seeds", *results))
    labels = ["1e-3, seed 0", "1e-3, seed 1", "1e-4, seed 0", "1e-4, seed 1"]
    assert [row[0] for row in rows(html)[1:-1]] == ["base model", *labels] and "run with one seed" not in html
    found = rows(html[html.rindex("<table", 0, html.index("<caption>Over the seeds")) :])
    written = [line for line in over_seeds(runs_of(results)) if line.startswith("|") and "---" not in line]
    assert [unescape(" | ".join(row)) for row in found] == [line[2:-2] for line in written]


def test_levers_have_their_figure_their_table_and_their_names(tmp_path, drawn):
    linear = handmade.with_levers(result_of(1e-3), schedule="linear", leash=2.0)
    (
        write_runs(tmp_path / "runs" / "plain", result_of(1e-3), result_of(1e-4)),
        write_runs(tmp_path / "runs" / "linear", linear),
    )
    html, page = write(tmp_path, tmp_path / "runs" / "plain", tmp_path / "runs" / "linear")
    assert [row[0] for row in rows(html)[1:-1]] == ["base model", "1e-3", "1e-4", "1e-3 linear leash 2"]
    order = [
        "<strong>What the exercise sees.",
        "<strong>What makes the rate matter less.",
        "<caption>One row for each model",
    ]
    places = [html.index(words) for words in [*order, "<caption>The width of the valley is the factor"]]
    assert places == sorted(places) and "The learning rate as a clock" not in html
    found = rows(html[html.rindex("<table", 0, places[-1]) :])
    assert [row[0] for row in found] == ["lever", "plain", "linear leash 2"]
    assert 'href="#lever"' in html and "lever" in page.ids
    settings = html[html.index("<h3>Settings of all runs") :]
    assert "leash" not in settings and "schedule" not in settings and '<th scope="row">top_k' in settings
    plain, _ = write(tmp_path, tmp_path / "runs" / "plain")
    assert "lever" not in re.sub(r'href="[^"]*"', "", plain)


def test_copies_and_frequent_tokens_are_marked(tmp_path):
    copies = [{"start": 3, "tokens": 4, "passage": "second"}, {"start": 1, "tokens": 4, "passage": "first"}]
    copies.append({"start": 2, "tokens": 2, "passage": "inside the first"})
    result = result_of(1e-3)
    result["after"]["continuations"] = [continuation(copies), continuation()]
    page, _ = write(tmp_path, write_runs(tmp_path / "copies", result))
    html = re.search(r'<article><h4>1e-3</h4><p class="text" dir="auto">(.*?)</p></article>', page, re.S)[1]
    first, second = re.findall(r"<mark[^>]*>(.*?)</mark>", html)
    assert first == ' father<span class="frequent"> was a</span> mercer' and second == " at"
    assert "The book: … first …" in html and "The book: … second …" in html and "inside" not in html
    visible = re.sub(r"<[^>]*>", "", re.sub(r'<span id="copy-.*?</span>', "", html))
    assert visible == "My father was a mercer at Bideford.\n\nI sailed"


def test_single_line_ends_flow_and_empty_lines_stay():
    assert flowing("\na\nb\n\nc\n", True) == " a b\n\nc " and flowing("", True) == ""
    assert flowing(" a\n  b", False) == " a\n  b"


def test_without_a_held_out_part_the_book_still_speaks(tmp_path):
    html, page = write(tmp_path, write_runs(tmp_path / "all", nothing_held_out(result_of(1e-3))))
    titles, *_, book = rows(html)
    assert html.count("<h4>the book</h4>") == 2 and "held-out loss" not in titles
    assert (
        book[0] == "the book, in-sample"
        and book[titles.index("ratio")] == "0.558"
        and book[titles.index("copied (%)")] == "–"
    )
    assert "over-fits (1e-3): no held-out loss during training" in "".join(page.text)


def test_the_best_learning_rate_is_named_where_it_has_a_model(tmp_path):
    """Stopped in time even a run that diverged has one, and it writes."""
    gone = diverged(1e-4, seed=1) | handmade.held_out_at([[0, 4.0], [1, 2.9]]) | {"best": result_of(1e-4)["after"]}
    html, _ = write(tmp_path, write_runs(tmp_path / "half", result_of(1e-3), result_of(1e-4), gone))
    assert [(row[0], "lowest loss" in row[-1]) for row in rows(html)[2:-1]] == [
        ("1e-3, seed 0", False),
        ("1e-4, seed 0", True),
        ("1e-4, seed 1", False),
        ("1e-4, seed 1, step 1", True),
    ]
    assert html.count("<h4>1e-4, seed 1, step 1</h4>") == 2 and "1e-4, seed 1, step 1: 41 tokens" in html


def test_how_it_was_made(folder, tmp_path):
    html, page = write(tmp_path, folder)
    for result in folder.glob("*/result.json"):
        assert hashlib.sha256(result.read_bytes()).hexdigest() in html
        assert f"<code>{'/'.join(result.parts[-3:])}</code>" in html
    assert "runs of at least 13 tokens" in html
    assert all(words in html for words in ("ab" * 32, "cd" * 32, "3.11.2", "2.0 (before 0.5, training 1.0, after 0.5)"))


def test_what_it_teaches_comes_first_and_the_rest_opens_with_a_click(folder, tmp_path, drawn):
    html, page = write(tmp_path, folder)
    order = ["<h2>The answer", "<h2>What the exercise sees, and what it hides", "<strong>What the exercise sees."]
    order += ["<strong>What it hides.", "<strong>The learning rate as a clock.", "<strong>What learning costs."]
    order += ["One row for each model", "<h2>What they wrote", "<h4>the book</h4>"]
    closed = ["The rules behind them", '<dt id="kl">Moved by', "Minutes of each run"]
    places = [html.index(words) for words in [*order, *closed]]
    assert places == sorted(places) and len(set(places)) == len(places)
    for words in closed:
        before = html[: html.index(words)]
        last = before.rindex("<details")
        assert last > before.rindex("</details>") and before[last:].startswith('<details id="')
    assert "<details id" not in html[: places[len(order) - 1]]
    captions = [re.sub(r"\s+", " ", words) for words in re.findall(r"<figcaption>(.*?)</figcaption>", html, re.S)]
    assert len(captions) == 4 and all(len(words) > 100 for words in captions)


def test_headings_link_to_what_they_mean(folder, tmp_path):
    html, page = write(tmp_path, write_runs(tmp_path / "seeds", result_of(1e-3), result_of(1e-3, 1)))
    links = [attributes["href"] for attributes in page.all("a")]
    assert len(links) > 20 and all(link.startswith("#") and link[1:] in page.ids for link in links)
    titles = re.findall(r'<th scope="col">(.*?)</th>', html)
    plain = {title for title in titles if not title.startswith("<a")}
    names = {"model", "run", "file", "sha256", "minutes", "learning rate", "seeds"}
    assert plain <= names


def test_it_says_how_texts_were_drawn_and_what_counts_as_a_copy(tmp_path):
    results = [result_of(1e-3, least_copy=17), result_of(1e-4)]
    text = write(tmp_path, write_runs(tmp_path / "plain", *results))[1].words
    assert "with the same random numbers (temperature 0.8, among the 40 likeliest tokens)" in text
    assert "runs of at least 17 tokens" in text
    whole = result_of(1e-3, shown={"temperature": 1.0, "top_k": 0})
    assert "(temperature 1, among all tokens)" in write(tmp_path, write_runs(tmp_path / "all", whole))[0]


def test_as_it_learns(tmp_path):
    """Two prompts, two learning rates, three steps; what is copied during training is marked."""

    def run(lr, seed=0):
        copied = continuation([{"start": 1, "tokens": 4, "passage": f"passage at {lr}, seed {seed}"}])
        checkpoints = [{"sample": s, "continuations": [continuation(), copied]} for s in (0, 20, 40)]
        checkpoints.insert(1, {"sample": 10})
        return nothing_held_out(result_of(lr, seed)) | {"checkpoints": checkpoints}

    gone = nothing_held_out(result_of(1e-5))
    gone["checkpoints"][0]["continuations"] = [continuation(), continuation()]
    folder = write_runs(tmp_path / "way", run(1e-3), run(1e-3, 1), run(1e-4), gone)
    html, _ = write(tmp_path, folder)
    section = html[html.index("<h3>As it learns") : html.index("<h3>Side by side")]
    steps = Counter(re.findall(r"<h5>step (\d+)", section))
    assert steps == {"0": 4, "20": 4, "40": 4}  # of two seeds the first
    assert re.findall(r"<h4>(.*?)</h4>", section) == ["1e-3", "1e-4"] * 2
    assert section.count("passage at 0.001, seed 0") == section.count("passage at 0.0001, seed 0") == 3
    write_runs(tmp_path / "leash", handmade.with_levers(run(1e-3), leash=2.0))
    html, _ = write(tmp_path, tmp_path / "way", tmp_path / "leash")
    assert html.count("<h4>1e-3</h4>") == html.count("<h4>1e-3 leash 2</h4>") == 2
    assert "As it learns" not in write(tmp_path, write_runs(tmp_path / "none", result_of(1e-3)))[0]


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
    folder = write_runs(tmp_path / "rated", *results)
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
    for words in ("3 different comparisons", "<Reader & Co>", "A verdict needs 24 pairs", "other texts now: 1."):
        assert words in page.words
    (folder / "ratings.jsonl").write_text(changed, encoding="utf-8")
    assert "No ratings of these texts yet" in write(tmp_path, folder)[1].words


def test_ratings_of_runs_with_other_prompts_cannot_be_shown(tmp_path):
    folder = write_runs(tmp_path / "mixed", result_of(1e-3), result_of(1e-4, prompts=["one", "two"]))
    (folder / "ratings.jsonl").write_text(rating("one text", "another", "r"), encoding="utf-8")
    complaint = "The ratings cannot be shown: the run at 1e-4 has other prompts"
    assert complaint in write(tmp_path, folder)[1].words


def test_the_command_and_its_errors(folder, tmp_path, command, refused):
    code, out, _ = command(main, folder)
    assert code == 0 and out.strip() == str(folder / "report.html") and len(find_runs([folder])) == 3
    assert sorted(file.name for file in folder.iterdir() if file.is_file()) == ["report.html"]
    assert command(main, folder, "--out", tmp_path / "here.html")[0] == 0 and (tmp_path / "here.html").is_file()
    for arguments, words in (
        ([tmp_path / "nowhere"], "no result.json"),
        ([folder, "--out", tmp_path / "no" / "page.html"], "No such file"),
    ):
        assert words in refused(main, *arguments)
