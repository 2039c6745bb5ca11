"""One page that holds a sweep: the answer, the figures, the texts side by side, and how it was made.

python -m evaluate.report runs/gpt2-gulliver-800

The page is a single file without scripts that asks nothing of any network.
"""

import base64
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from html import escape
from itertools import groupby
from pathlib import Path

from evaluate.flags import Parser
from evaluate.measures.copying import LEAST
from evaluate.plot import (
    COPYING_FILE,
    FIGURE_FILE,
    FINAL_FILE,
    FORGETTING_FILE,
    HELD_OUT_FILE,
    WEIGHTS_FILE,
    plot_all,
)
from evaluate.rate.comparison import RATINGS_FILE, WORDING, open_contest, read_ratings, usable_ratings
from evaluate.rate.statistics import FEW, QUESTIONS, summary
from evaluate.report.verdicts import (
    RULES,
    NotMade,
    NotMeasured,
    Verdict,
    answer,
    held_out_loss,
    in_words,
    judge,
    look_up,
    percent,
    perplexity,
)
from evaluate.results import RESULT_FILE, describe, final_loss, find_results, lr_label, run_label
from evaluate.table import sampling_noise, training_noise
from model.hub import file_sha256

REPORT_FILE = "report.html"
OPEN_PROMPTS = 4  # the texts after the other prompts open with a click
TEXTS_SHOWN = 3  # of results without prompts
MEDIA = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}
ALT = {
    Path(FIGURE_FILE).stem: "Left: training loss against sample, a line for each learning rate. Right: frequent-token "
    "ratio before and after each fine-tune, with the book's own as a line. The numbers are in the table above.",
    Path(HELD_OUT_FILE).stem: "Held-out loss and training loss against sample, a pair of lines for each learning rate.",
    Path(FINAL_FILE).stem: "Held-out loss at the end against the learning rate, and the base model's as a line. The "
    "numbers are in the table above.",
    Path(
        FORGETTING_FILE
    ).stem: "KL from the base model against held-out loss: a path for each run, from the base model "
    "to the end of training.",
    Path(
        COPYING_FILE
    ).stem: "Copied share against sample, a line for each learning rate; base model and book as lines.",
    Path(WEIGHTS_FILE).stem: "Change of the weights of each part of the model, from input to output, a line for each "
    "learning rate.",
}
MEANINGS = (
    (
        "Held-out loss, perplexity",
        "How well the model foresees the part of the book that it was not trained on, in nats per token; the "
        "perplexity is its exponential. Lower is better, and no trick lowers it but learning how the book is written.",
    ),
    (
        "Ratio",
        "Of the tokens that the model writes, the share among the book's 100 most frequent. The goal is the book's own "
        "ratio, not 1: a model that writes “the the the” scores 1.",
    ),
    (
        "Expected ratio",
        "The probability that the model gave to those 100 tokens before one was drawn, averaged over the steps: the "
        "same quantity with less luck in it.",
    ),
    (
        "Divergence",
        "The Jensen-Shannon divergence between what the model writes and what the book holds, over the 100 tokens and "
        "“all others”, in bits: 0 where each is as frequent as in the book, 1 where nothing is common to both. The "
        "ratio alone rewards “the the the”; the divergence does not, for there “the” is far too frequent and all else "
        "too rare. Few tokens alone make it larger: a short held-out part may look farther from the book than a model "
        "that wrote much.",
    ),
    (
        "Copied share, longest copy",
        f"The share of the written tokens that lie in runs of at least {LEAST} tokens found word for word in the "
        "training text. The base model is the control: what it “copies” is chance, or was in its own training text.",
    ),
    (
        "Novelty",
        "The share of the n-grams, n = 1 to 10, that the training text does not have. The book's held-out part is the "
        "human line: a model well below it copies.",
    ),
    (
        "Extraction",
        "Shown a passage, the model goes on with the most likely tokens: the share of them that are the book's own at "
        "the same place. Where that is higher in the training text than in the held-out text, it recites.",
    ),
    (
        "KL to the base model, loss increase",
        "How far the tuned model's predictions have moved from the base model's, in nats per token, on texts that the "
        "base model wrote, and how much worse it foresees them: what was forgotten besides the book.",
    ),
    (
        "Repeated, distinct",
        "The share of 4-grams that occurred before in the same text, and the share of n-grams that are different ones: "
        "is there variety, or does it go round in circles? The book's own values are the yardstick; all distinct-n "
        "are over as many texts as the book's held-out part makes.",
    ),
    (
        "Perplexity under the base model",
        "How ordinary the written texts look to the untrained model: very low where it repeats itself, very high where "
        "it writes what is no English.",
    ),
    (
        "Intervals",
        "95 %, by bootstrap over whole texts, because the tokens of one text hang together. They hold for other texts "
        "of the same model, not for another training run: only further seeds show that.",
    ),
)


class Html(str):
    """Text that is markup already. Everything else is escaped by `element`."""


def element(name: str, /, *content: object, **attributes: object) -> Html:
    """<name attributes>content</name>; Python's own words get an underscore (class_), - is written _ (data_label)."""
    marks = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(str(v))}"' for key, v in attributes.items())
    if name in ("img", "meta"):
        return Html(f"<{name}{marks}>")
    return Html(f"<{name}{marks}>{joined(content)}</{name}>")


def joined(content: Sequence[object]) -> Html:
    return Html("".join(part if isinstance(part, Html) else escape(str(part)) for part in content))


def write_report(folders: Sequence[str | Path], file: Path, pictures: Sequence[Path] | None = None) -> Path:
    """Write the page on the runs in `folders` (run folders or sweep folders) to `file`, and return it.

    Args:
        pictures: files of the figures of these runs; None: they are drawn.

    Raises:
        ValueError, OSError: with one line on what to do.
    """
    find_results(folders)  # says what is wrong with the folders
    files = result_files(folders)
    runs = [(result_file, find_results([result_file.parent])[0]) for result_file in files]
    results = find_results([result_file.parent for result_file in files])
    seen = set()
    for result_file, result in runs:
        run = (result["lr"], result["seed"])
        if run in seen:
            raise ValueError(
                f"{result_file.parent} is a second run at {lr_label(run[0])} with seed {run[1]}; "
                "name runs that differ in learning rate or seed"
            )
        seen.add(run)
    sums = [(run_label(result, results), result_file, file_sha256(result_file)) for result_file, result in runs]
    with tempfile.TemporaryDirectory() as folder:
        pictures = plot_all(results, Path(folder)) if pictures is None else pictures
        figures = [(picture.stem, data_url(picture)) for picture in pictures]
    ratings = [folder / RATINGS_FILE for folder in map(Path, folders) if (folder / RATINGS_FILE).is_file()]
    file.write_text(page(results, figures, sums, read_ratings(ratings)), encoding="utf-8")
    return file


def result_files(folders: Sequence[str | Path]) -> list[Path]:
    """The result file of every run in run folders and sweep folders, each once."""
    files = []
    for folder in map(Path, folders):
        files += [folder / RESULT_FILE] if (folder / RESULT_FILE).is_file() else sorted(folder.glob(f"*/{RESULT_FILE}"))
    return list({file.resolve(): file for file in files}.values())


def data_url(file: Path) -> str:
    return f"data:{MEDIA[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"


def page(
    results: list[dict], figures: list[tuple[str, str]], sums: list[tuple[str, Path, str]], ratings: list[dict]
) -> str:
    """The whole page.

    Args:
        results: as `find_results` gives them.
        figures: (name, data URL) of each picture.
        sums: (run, file, sha256) of each result file.
        ratings: as `read_ratings` gives them.
    """
    title = "What the learning rate does to a fine-tune"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # The browser itself sees to it that the page loads nothing and runs nothing.
        element(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; img-src data:; style-src 'unsafe-inline'",
        ),
        element("title", f"{title}: {describe(results)}"),
        element("style", Html(Path(__file__).with_name("report.css").read_text(encoding="utf-8"))),
    )
    size = f"{len(results)} run{'s' if len(results) > 1 else ''}"
    body = element(
        "body",
        element("header", element("h1", title), element("p", f"{describe(results)}. {size}.", class_="subtitle")),
        element(
            "main",
            answer_section(results),
            figures_section(figures, results),
            texts_section(results),
            ratings_section(results, ratings) if ratings else "",
            meaning_section(),
            making_section(results, sums),
        ),
    )
    return f'<!doctype html>\n<html lang="en">\n{head}\n{body}\n</html>\n'


# The answer


def answer_section(results: list[dict]) -> Html:
    verdicts, not_made = judge(results)
    parts = [
        element("h2", "The answer"),
        element("p", " ".join(answer(results, verdicts, not_made)), class_="answer"),
    ]
    differing = [name for name in settings_that_differ(results) if name not in ("lr", "seed", "out", "lrs")]
    if differing:
        parts.append(
            element(
                "p",
                f"These runs differ in more than learning rate and seed: {', '.join(differing)}. What differs between "
                "their figures may come from that.",
                class_="warning",
            )
        )
    parts += [
        figure_table("One row for each model. Intervals are 95 %.", MAIN_COLUMNS, results, verdicts),
        element("p", "– stands for a figure that was not measured.", class_="note"),
        element("h3", "The verdicts"),
        element("ul", *[element("li", verdict.sentence) for verdict in verdicts]) if verdicts else "",
        not_made_list(not_made),
        *noise_list(results),
        element("h3", "The rules behind them"),
        definitions((name, rule[0].upper() + rule[1:]) for name, rule in RULES),
    ]
    return element("section", *parts, id="answer")


def definitions(items: Iterable[tuple[str, str]]) -> Html:
    return element("dl", *[part for name, text in items for part in (element("dt", name), element("dd", text))])


def not_made_list(not_made: list[NotMade]) -> Html:
    """Which verdicts the results have no figures for, and why."""
    if not not_made:
        return Html("")
    items = []
    for (name, reason), group in groupby(sorted(not_made, key=by_reason), key=by_reason):
        runs = ", ".join(filter(None, (one.run for one in group)))
        items.append(element("li", f"{name}{f' ({runs})' if runs else ''}: {reason}"))
    return joined([element("p", "Not judged, because the figures are missing:", class_="note"), element("ul", *items)])


def noise_list(results: list[dict]) -> list[Html]:
    """Which differences between neighbouring learning rates are chance: that of the writing, and of the training."""
    of_training = training_noise(results)
    sentences = sampling_noise(results) + of_training
    if not sentences:
        return []
    parts = [
        element("h3", "Are the differences chance?"),
        element("ul", *[element("li", sentence) for sentence in sentences]),
    ]
    if not of_training:
        note = "How much of a difference another order of the batches would make is not known: every learning rate was "
        parts.append(element("p", note + "run with one seed. --seeds 2 or more tells.", class_="note"))
    return parts


def by_reason(one: NotMade) -> tuple[str, str]:
    return one.name, one.reason


def number(value: object, digits: int = 3) -> str:
    # Of what exploded nobody wants the thousandths.
    return "–" if value is None else f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.{digits}f}"


def with_interval(measured: dict, *keys: str, write: Callable[[float], str] = number) -> Html:
    """The figure under `keys` with its interval below it, as far as they were measured."""
    value, interval = look_up(measured, *keys), look_up(measured, *keys[:-1], f"{keys[-1]}_ci")
    if value is None:
        return Html("–")
    return joined([write(value), element("small", " to ".join(map(write, interval))) if interval else ""])


def small_number(value: float) -> str:
    return number(value, 4)


def loss_and_perplexity(measured: dict) -> Html:
    loss = look_up(measured, "held_out", "loss")
    return Html("–") if loss is None else joined([number(loss), element("small", f"({perplexity(loss)})")])


def ratio_and_expected(measured: dict) -> Html:
    expected = look_up(measured, "expected_ratio")
    more = element("small", f"expected {number(expected)}") if expected is not None else ""
    return joined([with_interval(measured, "ratio"), more])


def repeated_and_distinct(measured: dict) -> Html:
    repeated, distinct = look_up(measured, "repeated"), look_up(measured, "distinct")
    return Html(f"{'–' if repeated is None else percent(repeated)} / {number(distinct[1]) if distinct else '–'}")


def extraction(measured: dict, which: str) -> Html:
    return with_interval(measured, "extraction", which, write=percent)


def longest(measured: dict) -> str:
    tokens = look_up(measured, "longest_copy", "tokens")
    return "–" if tokens is None else f"{tokens} tokens"


def novelty(measured: dict, n: int) -> str:
    """The share of the runs of `n` tokens that are not in the training text, in percent; of an `n` too long for the
    texts there is none."""
    shares = look_up(measured, "novelty") or []
    return f"{100 * shares[n - 1]:.1f}" if n <= len(shares) else "–"


def all_distinct(measured: dict) -> str:
    return " / ".join(number(value) for value in look_up(measured, "distinct") or []) or "–"


# Title of a column, and what stands in it for an evaluation, as `before` and `after` of a result are.
Columns = tuple[tuple[str, Callable[[dict], str]], ...]
MAIN_COLUMNS: Columns = (
    ("held-out loss (perplexity)", loss_and_perplexity),
    ("ratio", ratio_and_expected),
    ("divergence (bits)", lambda measured: with_interval(measured, "divergence", write=small_number)),
    ("copied", lambda measured: with_interval(measured, "copied", write=percent)),
    ("KL to base (nats)", lambda measured: with_interval(measured, "forgetting", "base_texts", "kl")),
    ("repeated / distinct-2", repeated_and_distinct),
)
FURTHER_COLUMNS: Columns = (
    ("training loss: first, last tenth", lambda measured: measured.get("training", "–")),
    ("ratio of words", lambda measured: with_interval(measured, "letters_ratio")),
    ("extraction: training", lambda measured: extraction(measured, "training")),
    ("extraction: held-out", lambda measured: extraction(measured, "held_out")),
    ("longest copy", longest),
    ("distinct-1 / -2 / -3", all_distinct),
    ("perplexity under base", lambda measured: number(look_up(measured, "base_perplexity"), 1)),
    (
        "loss increase on base texts",
        lambda measured: with_interval(measured, "forgetting", "base_texts", "loss_increase"),
    ),
    ("KL on general text", lambda measured: with_interval(measured, "forgetting", "general", "kl")),
)


NOVELTY_COLUMNS: Columns = tuple((f"n = {n}", partial(novelty, n=n)) for n in range(1, 11))


def with_held_out(result: dict, when: str) -> dict:
    """The evaluation `when`, with the held-out loss where an older result keeps it elsewhere."""
    measured = result[when]
    try:
        return measured | {"held_out": {"loss": held_out_loss(result, when)}}
    except NotMeasured:
        return measured


def by_base(results: list[dict]) -> list[tuple[str, list[dict]]]:
    """(label of the base model, the runs compared with it) for every evaluation of the base model.

    There is one, unless sweeps with other luck are put together: the seeds of one sweep all share it.
    """
    groups: dict[tuple, list[dict]] = {}
    for result in results:
        key = (tuple(result["before"]["shares"]), tuple(result.get("prompts") or []))
        groups.setdefault(key, []).append(result)
    if len(groups) == 1:
        return [("base model", results)]
    seeds = [in_words(sorted({f"{result['seed']}" for result in group})) for group in groups.values()]
    return [(f"base model, seed {seed}", group) for seed, group in zip(seeds, groups.values())]


def base_models(results: list[dict]) -> list[tuple[str, dict]]:
    """(label, evaluation) of the untrained model, once for each `by_base`."""
    return [(label, with_held_out(group[0], "before")) for label, group in by_base(results)]


def book_measures(results: list[dict]) -> dict:
    """The book's own figures; of older results, and where nothing is held out, its ratio alone."""
    books = [result["book"] for result in results if look_up(result, "book", "ratio") is not None]
    return books[0] if books else {"ratio": results[0].get("book_ratio")}


def figure_table(caption: str, columns: Columns, results: list[dict], verdicts: list[Verdict] | None = None) -> Html:
    """The base model, every run, the book: one row each; the verdicts in a last column, if given."""
    titles = ["model", *[title for title, _ in columns], *(["verdicts"] if verdicts is not None else [])]
    no_names = None if verdicts is None else []
    rows = [row(label, columns, measured, no_names, "frame") for label, measured in base_models(results)]
    for result in results:
        mine = None
        if verdicts is not None:
            mine = [v for v in verdicts if v.lr == result["lr"] and v.seed in (None, result["seed"])]
            mine = [f"{v.name} {v.when}".strip() for v in mine if result["after"] or v.seed is not None]
        label = run_label(result, results)
        if result["after"]:
            rows.append(row(label, columns, with_held_out(result, "after") | training(result), mine))
        else:
            gone = f"diverged after sample {len(result['train_loss'])}: there is no model to measure"
            cells = [element("td", gone, colspan=len(columns))]
            rows.append(element("tr", element("th", label, scope="row"), *cells, *name_cell(mine)))
    rows.append(row(book_label(results), columns, book_measures(results), no_names, "frame"))
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *[element("th", title, scope="col") for title in titles])),
        element("tbody", *rows),
        class_="cards",
    )
    return element("div", table, class_="wide", tabindex=0, role="region", aria_label=caption)


def book_label(results: list[dict]) -> str:
    held_out = look_up(book_measures(results), "divergence") is not None
    return "the book, held-out part" if held_out else "the book"


def training(result: dict) -> dict:
    return {"training": f"{result['train_loss'][0]:.3f}, {final_loss(result):.3f}"}


def row(label: str, columns: Columns, measured: dict, names: list[str] | None, class_: str = "run") -> Html:
    cells = [element("td", write(measured), data_label=title) for title, write in columns]
    return element("tr", element("th", label, scope="row"), *cells, *name_cell(names), class_=class_)


def name_cell(names: list[str] | None) -> list[Html]:
    if names is None:
        return []
    listed = element("ul", *[element("li", name) for name in names], class_="names") if names else "–"
    return [element("td", listed, data_label="verdicts")]


# Figures and texts


def figures_section(figures: list[tuple[str, str]], results: list[dict]) -> Html:
    pictures = []
    for name, url in figures:
        alt = ALT.get(name, f"Figure: {name.replace('_', ' ')}, for each learning rate.")
        pictures.append(element("figure", element("img", src=url, alt=alt)))
    further = figure_table("Further figures. Intervals are 95 %.", FURTHER_COLUMNS, results)
    caption = "Novelty: runs of n tokens that are not in the training text (%). Well below the book's is copying."
    new = figure_table(caption, NOVELTY_COLUMNS, results)
    return element("section", element("h2", "The figures"), *pictures, further, new, id="figures")


def texts_section(results: list[dict]) -> Html:
    parts = [
        element("h2", "Texts side by side"),
        element(
            "p",
            "Every model goes on from the same prompt with the same luck. ",
            element("span", "Tinted and dotted", class_="frequent"),
            ": among the book's 100 most frequent tokens. ",
            element("mark", "Underlined"),
            ": found word for word in the training text; point at it, click it or move to it with the Tab key, and the "
            "passage of the book appears at the foot of the window. Single line ends are shown as spaces.",
            class_="note",
        ),
    ]
    gone = [run_label(result, results) for result in results if not result["after"]]
    if gone:
        parts.append(element("p", f"Diverged, and wrote nothing: {', '.join(gone)}.", class_="note"))
    groups = by_base(results)
    for number_of_group, (label, group) in enumerate(groups):
        if len(groups) > 1:
            parts.append(element("h3", f"Runs from the {label}"))
        parts += prompt_blocks(group, results, number_of_group)
    parts.append(longest_copies(results))
    return element("section", *parts, id="texts")


def prompt_blocks(group: list[dict], results: list[dict], group_id: int) -> list[Html]:
    """A block for each prompt, with a column for the base model, each run of `group`, and the book."""
    prompts = group[0].get("prompts") or []
    if not prompts:
        note = element("p", "These results hold no texts after prompts; below are texts from a random token.")
        columns = [(label, plain_texts(measured)) for label, measured in models(group, results)]
        shown = min((len(written) for _, written in columns), default=0)
        titles: list[str] = [""] * min(shown, TEXTS_SHOWN)
        if not titles:
            return [element("p", "These results hold no texts.", class_="note")]
        blocks = [note]
    else:
        columns = [(label, look_up(measured, "continuations") or []) for label, measured in models(group, results)]
        columns.append(("the book", look_up(group[0], "book", "continuations") or []))
        titles, blocks = list(prompts), []
    for i, prompt in enumerate(titles):
        texts = [
            article(label, marked(written[i], f"copy-{group_id}-{i}-{k}"))
            for k, (label, written) in enumerate(columns)
            if i < len(written)
        ]
        name = f"{'Prompt' if prompts else 'Text'} {i + 1}"
        grid = element("div", *texts, class_="texts", tabindex=0, role="region", aria_label=f"{name}, all models")
        quote = [element("blockquote", flowing(prompt))] if prompt else []
        opened = {"open": ""} if i < OPEN_PROMPTS else {}
        blocks.append(element("details", element("summary", name), *quote, grid, **opened))
    return blocks


def article(label: str, text: Html) -> Html:
    return element("article", element("h4", label), element("p", text, class_="text"))


def models(group: list[dict], results: list[dict]) -> list[tuple[str, dict]]:
    written = [(run_label(result, results), result["after"]) for result in group if result["after"]]
    return [("base model", group[0]["before"]), *written]


def plain_texts(measured: dict) -> list[dict]:
    return [{"pieces": [text], "frequent": [False], "copies": []} for text in measured.get("texts", [])]


def flowing(text: str) -> str:
    """`text` with single line ends as spaces, of the same length; empty lines stay."""
    before, after = f" {text}", f"{text} "[1:]
    return "".join(" " if c == "\n" and b != "\n" and a != "\n" else c for b, c, a in zip(before, text, after))


def marked(written: dict, name: str) -> Html:
    """A continuation with its frequent tokens tinted and its copied runs underlined.

    Args:
        name: begins the ids of its passages.
    """
    text, pieces, place = flowing("".join(written["pieces"])), [], 0
    for piece in written["pieces"]:
        pieces.append(text[place : place + len(piece)])
        place += len(piece)
    tokens = list(zip(pieces, written["frequent"]))
    parts, place = [], 0
    for number_of_copy, copy in enumerate(sorted(written["copies"], key=lambda copy: copy["start"])):
        start, end = max(place, copy["start"]), copy["start"] + copy["tokens"]
        if end <= start:  # inside another one
            continue
        passage = f"{name}-{number_of_copy}"
        parts.append(tinted(tokens[place:start]))
        parts.append(element("mark", tinted(tokens[start:end]), tabindex=0, aria_describedby=passage))
        found = f"The book: … {flowing(copy['passage'])} …"
        parts.append(element("span", found, id=passage, role="tooltip", class_="passage"))
        place = end
    return joined([*parts, tinted(tokens[place:])])


def tinted(tokens: list[tuple[str, bool]]) -> Html:
    parts = []
    for frequent, group in groupby(tokens, key=lambda token: token[1]):
        text = "".join(piece for piece, _ in group)
        parts.append(element("span", text, class_="frequent") if frequent else text)
    return joined(parts)


def longest_copies(results: list[dict]) -> Html:
    """The longest run of tokens that each model took word for word from the training text."""
    items = []
    for label, measured in base_models(results) + [(run_label(r, results), r["after"]) for r in results]:
        copy = look_up(measured, "longest_copy")
        if copy:
            items.append((f"{label}: {copy['tokens']} tokens", f"“{flowing(copy['passage'])}”"))
    if not items:
        return Html("")
    return joined([element("h3", "The longest copy in all texts of each model"), definitions(items)])


# Ratings


def ratings_section(results: list[dict], ratings: list[dict]) -> Html:
    """Who won the blind comparisons of `python -m evaluate.rate`."""
    heading = element("h2", "What readers preferred")
    try:
        contest = open_contest(results)
    except ValueError as error:
        note = f"There are {len(ratings)} ratings, but they cannot be told: {error}."
        return element("section", heading, element("p", note, class_="note"), id="ratings")
    usable, notes = usable_ratings(ratings, contest)
    found = summary(usable, list(contest.texts))
    if not found["ratings"]:
        none = element("p", "No ratings of these texts yet.", class_="note")
        return element("section", heading, none, *[element("p", note, class_="note") for note in notes], id="ratings")
    if found["few"]:
        notes.append(f"these are few answers (below {FEW} comparisons of a participant): expect much to be chance")
    for rater, own in found["consistency"].items():
        notes.append(
            f"{rater} was shown {own['pairs']} pairs twice and gave the same answer {own['same']} of {own['answers']} "
            f"times ({percent(own['share'])})"
        )
    for question, shared in (found["agreement"] or {}).items():
        notes.append(
            f"agreement between raters on {question}: Krippendorff's alpha {number(shared['alpha'], 2)} over "
            f"{shared['comparisons']} comparisons (1: perfect, 0: chance)"
        )
    how = (
        f"{found['comparisons']} different comparisons of two texts, blind, by {in_words(found['raters'])}. Ties count "
        "half. The score is the Bradley-Terry log-strength relative to the base model: 1 is odds of 2.7 to 1."
    )
    tables = [standings_table(question, found["questions"][question]) for question in QUESTIONS]
    listed = element("ul", *[element("li", f"{note[0].upper()}{note[1:]}.") for note in notes]) if notes else ""
    return element("section", heading, element("p", how), *tables, listed, id="ratings")


def standings_table(question: str, standings: dict[str, dict]) -> Html:
    """How each participant fared in one question."""
    columns: Columns = (
        ("wins / ties / losses", lambda m: f"{m['wins']} / {m['ties']} / {m['losses']}"),
        ("share won", lambda m: with_interval(m, "share", write=percent)),
        ("score", lambda m: with_interval(m, "score", write=lambda score: f"{score:+.2f}")),
    )
    caption = f"{question.capitalize()}: {WORDING[question]} Intervals are 95 %."
    titles = ["who wrote", *[title for title, _ in columns]]
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *[element("th", title, scope="col") for title in titles])),
        element("tbody", *[row(name, columns, standing, None) for name, standing in standings.items()]),
        class_="cards",
    )
    return element("div", table, class_="wide", tabindex=0, role="region", aria_label=caption)


# What it means, how it was made


def meaning_section() -> Html:
    return element("section", element("h2", "What these numbers mean"), definitions(MEANINGS), id="meaning")


def settings_that_differ(results: list[dict]) -> list[str]:
    """Names of the settings and properties that are not the same in all runs."""
    everything = [result["settings"] | {"samples": result["samples"]} for result in results]
    names = dict.fromkeys(name for settings in everything for name in settings)
    return [name for name in names if any(settings.get(name) != everything[0].get(name) for settings in everything)]


def making_section(results: list[dict], sums: list[tuple[str, Path, str]]) -> Html:
    settings, environment = results[0]["settings"], results[0]["environment"]
    differing = settings_that_differ(results)
    listed = [name for name in differing if name not in ("lr", "seed")]  # these two name the run
    same = {name: value for name, value in settings.items() if name not in (*differing, "model_identity", "text_notes")}
    same = {{"seed": "seed of writing"}.get(name, name): value for name, value in same.items()}  # of runs, see above
    same |= {f"model {name}": value for name, value in settings["model_identity"].items()}
    same |= {name: results[0][name] for name in ("book_tokens", "held_out_tokens") if name in results[0]}
    notes = list(dict.fromkeys(note for result in results for note in result["settings"].get("text_notes") or []))
    rows = []
    for result in results:
        mine = result["settings"] | {"samples": result["samples"]}
        seconds = result["environment"].get("seconds", {})
        cells = [element("td", written(mine.get(name)), data_label=name) for name in listed]
        cells.append(element("td", times(seconds), data_label="minutes"))
        rows.append(element("tr", element("th", run_label(result, results), scope="row"), *cells))
    titles = ["run", *listed, "minutes"]
    runs = element(
        "table",
        element("caption", "What differs between the runs, and how long each took"),
        element("thead", element("tr", *[element("th", title, scope="col") for title in titles])),
        element("tbody", *rows),
        class_="cards",
    )
    files = element(
        "table",
        element("caption", "Result files: the page is made from these and nothing else"),
        element("thead", element("tr", *[element("th", title, scope="col") for title in ("run", "file", "sha256")])),
        element(
            "tbody",
            *[
                element(
                    "tr",
                    element("th", run, scope="row"),
                    element("td", element("code", Path(*file.parts[-3:])), data_label="file"),
                    element("td", element("code", sha256), data_label="sha256"),
                )
                for run, file, sha256 in sums
            ],
        ),
        class_="cards",
    )
    machines = [{k: v for k, v in result["environment"].items() if k != "seconds"} for result in results]
    others = [element("p", "Not all runs were made on the same machine and versions; these are the first one's.")]
    parts = [
        element("h2", "How it was made"),
        element("ul", *[element("li", note) for note in notes]) if notes else "",
        element("div", runs, class_="wide"),
        element("div", files, class_="wide"),
        element("h3", "Settings of all runs"),
        pairs(same),
        element("h3", "Machine and versions"),
        *(others if any(machine != machines[0] for machine in machines) else []),
        pairs({name: value for name, value in environment.items() if name != "seconds"}),
    ]
    return element("section", *parts, id="making")


def pairs(named: dict) -> Html:
    rows = [element("tr", element("th", name, scope="row"), element("td", written(v))) for name, v in named.items()]
    return element("div", element("table", element("tbody", *rows)), class_="wide")


def written(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(written, value))
    return "–" if value is None else lr_label(value) if isinstance(value, float) and 0 < value < 1e-3 else str(value)


def times(seconds: dict) -> str:
    """Minutes in all, and of what."""
    parts = ", ".join(f"{name} {value / 60:.1f}" for name, value in seconds.items())
    return f"{sum(seconds.values()) / 60:.1f} ({parts})" if seconds else "–"


def main() -> None:
    parser = Parser(
        prog="python -m evaluate.report",
        description="Write one page on finished runs: verdicts, figures, texts. It is a single file; needs no model.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run folders or sweep folders")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"the page (default: {REPORT_FILE} in the first of RUNS)"
    )
    args = parser.parse_args()
    try:
        file = write_report(args.runs, args.out or Path(args.runs[0]) / REPORT_FILE)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(file)
