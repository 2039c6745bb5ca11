"""The tables over the learning rates, from one list of columns: as Markdown, for a terminal, and for the page."""

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from data.flags import plain
from evaluate.intervals import Interval, wilson_interval
from evaluate.results import EXPECTED, Run, copied_texts, describe, last_tenth, loss_change, settings_that_differ
from evaluate.valleys import VALLEYS, valleys
from evaluate.verdicts import conclusion, judge

WIDTH = 80  # columns of a terminal
LINES = 3  # of each text in a terminal


@dataclass(frozen=True)
class Row:
    """A model, or the book: what was measured of it; None stands for what it has not."""

    label: str
    measured: dict | None  # an `Evaluation`; for the book only what a text has by itself; None: diverged
    training: float | None = None  # loss in nats per token
    change: Interval | None = None  # of the held-out loss, from the base model's
    lowest: tuple[int, float] | None = None  # step, held-out loss
    minutes: float | None = None
    verdicts: list[str] = field(default_factory=list)


def look_up(measured: dict | None, *keys: str) -> object:
    """The value under `keys`, one inside the other, or None if it was not measured."""
    for key in keys:
        measured = measured.get(key) if isinstance(measured, dict) else None
    return measured


@dataclass(frozen=True)
class Column:
    """One number of each row, with its interval."""

    title: str
    value: Callable[[Row], float | None]
    beside: Callable[[Row], str] = lambda row: ""  # its interval, in words
    digits: int = 3
    short: str = ""  # title in a terminal; "": the column is left out there
    over_seeds: bool = False  # stands in the table over the seeds
    step: Callable[[Row], int | None] = lambda row: None  # stands behind the number

    def cell(self, row: Row) -> list[str]:
        """The number, and its interval if there is one."""
        value, beside, step = self.value(row), self.beside(row), self.step(row)
        written = number(value, self.digits) + ("" if step is None else f" ({step})")
        return [written, beside] if beside else [written]


def measured(title: str, *keys: str, scale: float = 1, **options) -> Column:
    """A column of what stands under `keys` in an evaluation, and of its interval."""

    def value(row: Row) -> float | None:
        found = look_up(row.measured, *keys)
        return None if found is None else scale * found

    def beside(row: Row) -> str:
        interval = look_up(row.measured, *keys[:-1], f"{keys[-1]}_ci")
        return between(interval, scale, options.get("digits", 3)) if interval else ""

    return Column(title, value, **{"beside": beside} | options)


def between(interval: Interval, scale: float, digits: int) -> str:
    return " to ".join(number(scale * end, digits) for end in interval)


def change_of_loss(row: Row) -> str:
    """The interval of the change from the base model's held-out loss, put around the loss."""
    if not row.change:
        return ""
    loss, half = row.measured["held_out_loss"], (row.change[1] - row.change[0]) / 2
    return between((loss - half, loss + half), 1, 3)


def in_texts(row: Row) -> str:
    """In how many of the texts something is copied, with the interval of that share (Wilson 1927)."""
    if not row.measured or "copied_shares" not in row.measured:
        return ""
    count, texts = copied_texts(row.measured)
    low, high = wilson_interval(count / texts, texts)
    return (
        f"{count} of {texts} texts, " + (between((low, high), 100, 1) if count else f"at most {100 * high:.1f}") + " %"
    )


COLUMNS = (
    Column("training loss", lambda row: row.training, short="training", over_seeds=True),
    measured("held-out loss", "held_out_loss", beside=change_of_loss, short="held-out", over_seeds=True),
    Column(
        "lowest held-out loss (step)",
        lambda row: row.lowest and row.lowest[1],
        step=lambda row: row.lowest and row.lowest[0],
        short="lowest (step)",
        over_seeds=True,
    ),
    measured("ratio", "ratio", short="ratio", over_seeds=True),
    *(measured(f"expected {how}", x, short=f"top-k {k or 'off'}", over_seeds=True) for x, (k, how) in EXPECTED.items()),
    measured("distinct-2", "distinct_2", short="dist-2"),
    measured("copied (%)", "copied", beside=in_texts, scale=100, digits=1, short="copied %", over_seeds=True),
    measured("longest copy (tokens)", "longest_copy", "tokens", digits=0),
    measured("extraction (%)", "extraction", "training", scale=100, digits=1),
    measured("extraction, held-out (%)", "extraction", "held_out", scale=100, digits=1),
    measured("moved by (nats)", "forgetting", "base_texts", "kl", short="moved", over_seeds=True),
    measured("forgot (nats)", "forgetting", "general", "loss_increase"),
    Column("minutes", lambda row: row.minutes, digits=1, short="min"),
)


def number(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` behind the point; of an exploded loss nobody needs the thousandths."""
    return "–" if value is None else f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.{digits}f}"


def columns_of(runs: list[Run]) -> list[Column]:
    """The columns that are not empty for `runs`, without the one that would repeat the ratio."""
    filled = rows_of(runs)
    columns = [c for c in COLUMNS if any(c.value(row) is not None for row in filled)]
    return [c for c in columns if c.title[:8] != "expected" or c.title in runs[0].expected.values()]


def rows_of(runs: list[Run]) -> list[Row]:
    """The base model, every run at its end and, where its weights were kept, stopped in time, the book."""
    first, verdicts = runs[0], judge(runs)[0]
    rows = [Row("base model", first.before, training=first.train_loss[0] if first.train_loss else None)]

    for run in runs:
        best, step = run.result["best"], run.result["best_step"]
        said = [f"{v.name} {v.when}".strip() for v in verdicts if (v.run, v.seed) == (run.name, run.seed)]
        fits = [v.name for v in verdicts if (v.run, v.seed) == (run.name, None)]  # of the weights stopped in time
        rows.append(
            Row(
                run.label,
                run.after,
                training=run.last_loss if run.after else None,
                change=run.after and loss_change(first.before, run.after),
                lowest=run.lowest_held_out if run.held_out else None,
                minutes=run.minutes,
                verdicts=(fits if run.after and not best else []) + said,
            )
        )
        if best:
            training = last_tenth(run.train_loss[:step])
            rows.append(
                Row(f"{run.label}, step {step}", best, training, loss_change(first.before, best), verdicts=fits)
            )
    book = first.result["book"]
    label = "held-out book" if "ratio" in book else "the book, in-sample"
    return [*rows, Row(label, {"ratio": first.book_ratio} | book)]


def markdown(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    titles = list(titles)
    return [f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *rows)]


def table(runs: list[Run]) -> str:
    """A page of Markdown on `runs` (see `find_runs`): the answer, the table, what else it says, and the seeds."""
    columns = columns_of(runs)
    rows = []
    for row in rows_of(runs):
        cells = [column.cell(row) for column in columns]
        written = [cell[0] + (f" ({cell[1]})" if cell[1:] else "") for cell in cells]
        rows.append([row.label, *(written if row.measured else [gone(row), *[""] * (len(columns) - 1)])])
    answer, *sentences = conclusion(runs)
    lines = [
        f"What the learning rate does to a fine-tune: {describe(runs)}.",
        "",
        answer,
        "",
        *markdown(["model", *(column.title for column in columns)], rows),
        "",
        f"{notes(runs)} Intervals are 95 %.",
        "",
        *(f"- {sentence}" for sentence in sentences),
        "",
        *over_seeds(runs),
        *under(f"{VALLEYS}.", valleys(runs)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def gone(row: Row) -> str:
    return f"{row.verdicts[0]}: no model" if row.verdicts else "no model"


def notes(runs: list[Run]) -> str:
    """What a reader of the table must know."""
    first, part, stopped, read = runs[0].result, "", "", ""
    if any(run.result["best"] for run in runs):
        stopped = "A row with a step is of the weights in best/: the run stopped in time. "
    if (measured := first.get("held_out_on_the_way", whole := first["held_out_tokens"])) < whole:
        part = f" During training only the first {measured:,} of {whole:,} held-out tokens are measured, otherwise all."
    if not {"samples", "batch_size"} & set(settings_that_differ(run.result for run in runs)):
        read = f"{first['samples']} steps read each training token {runs[0].readings(first['samples']):.1f} times. "
    return (
        "Losses in nats per token, the training loss as the mean over the last tenth (base model: the first batch). "
        f"{stopped}{read}The interval of a held-out loss is for its difference from the base model. Only ratios "
        "without top-k at temperature 1, sampled or expected, can be compared with the book's. The exercise's number "
        f"for the book, {first['in_sample_ratio']:.3f}, is in-sample: its frequent tokens are chosen on the same text."
        f"{part}"
    )


SEEDS_LEAD = "Over the seeds (orders of the batches): mean, standard deviation, lowest to highest."


def over_seeds(runs: list[Run]) -> list[str]:
    """`seed_rows` as lines of Markdown; nothing if there is one seed."""
    return under(SEEDS_LEAD, seed_rows(runs))


def under(lead: str, rows: list[list[str]]) -> list[str]:
    """A table, titles first, under a sentence, as lines of Markdown; nothing if it has no rows."""
    return [lead, "", *markdown(rows[0], rows[1:]), ""] if rows else []


def seed_rows(runs: list[Run]) -> list[list[str]]:
    """A table over the learning rates that were run with several seeds: the titles, and for each learning rate the
    mean, the spread, and for how many seeds each verdict holds. Empty if there is one seed."""
    names = [run.name for run in runs]
    names = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if not names:
        return []
    columns, verdicts = [column for column in columns_of(runs) if column.over_seeds], judge(runs)[0]
    rows_by_label = {row.label: row for row in rows_of(runs)}
    rows = [["learning rate", "seeds", *(c.title for c in columns), "sd of the ratio's writing", "verdicts (seeds)"]]
    for name in names:
        seeds = [run for run in runs if run.name == name]
        ended = [rows_by_label[run.label] for run in seeds if run.after]
        found = [spread([column.value(row) for row in ended], column.digits) for column in columns]
        writing = [
            np.std(shares, ddof=1) / len(shares) ** 0.5 for row in ended if len(shares := row.measured["shares"]) > 1
        ]
        said = [v.name for v in verdicts if v.run == name and v.seed is not None]
        counts = "; ".join(f"{rule} {said.count(rule)}/{len(seeds)}" for rule in dict.fromkeys(said))
        rows.append([name, str(len(seeds)), *found, f"{np.mean(writing):.3f}" if writing else "–", counts])
    return rows


def spread(values: list[float | None], digits: int) -> str:
    """Mean, standard deviation and range of several values."""
    values = [value for value in values if value is not None]
    if len(values) < 2:
        return number(values[0] if values else None, digits)
    low, high = number(min(values), digits), number(max(values), digits)
    return f"{number(np.mean(values), digits)} sd {number(np.std(values, ddof=1), digits)} ({low} to {high})"


def terminal_summary(runs: list[Run]) -> str:
    """What a command says at its end: answer, table, sentences and samples of the writing in 80 columns."""

    def wrapped(text: str) -> str:
        return textwrap.fill(text, WIDTH, subsequent_indent="  " if text.startswith("- ") else "")

    answer, *sentences = conclusion(runs)
    lines = [
        wrapped(f"What the learning rate does to a fine-tune: {describe(runs)}."),
        "",
        wrapped(answer),
        "",
        *aligned(rows_of(runs), [column for column in columns_of(runs) if column.short]),
        "",
        wrapped(notes(runs)),
        "",
        *(wrapped(f"- {sentence}") for sentence in sentences),
        "",
        *lines_of(f'After "{runs[0].result["prompts"][0]}"', runs[0].wrapped, WIDTH),
    ]
    texts = [("base", runs[0].before), *((run.label, run.after) for run in runs if run.after)]
    texts.append(("the book", runs[0].result["book"]))
    indent = max(len(name) for name, _ in texts) + 2
    for name, found in texts:
        text = "".join(found["continuations"][0]["pieces"])
        rows = [row for row in lines_of(text, runs[0].wrapped, WIDTH - indent) if row] or [""]
        if len(rows) > LINES:
            rows[LINES - 1 :] = [rows[LINES - 1][: WIDTH - indent - 4].rsplit(" ", 1)[0] + " ..."]
        lines += [f"{name if i == 0 else '':<{indent}}{row}".rstrip() for i, row in enumerate(rows)]
    return "\n".join(lines)


def aligned(rows: list[Row], columns: list[Column]) -> list[str]:
    """The table for a terminal, without the last of `columns` if it would be wider than WIDTH."""
    lines = [["", *(column.short for column in columns)]]
    for row in rows:
        cells = [column.cell(row)[0] for column in columns]
        cells[:1] = cells[:1] if row.measured else ["diverged"]
        lines.append([row.label, *cells])
    widths = [max(map(len, column)) for column in zip(*lines)]
    if columns and sum(widths) + len(widths) - 1 > WIDTH:
        return aligned(rows, columns[:-1])
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else " "
    return [gap.join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]


def flowing(text: str, wrapped: bool) -> str:
    """`text`, if its source is `wrapped`, with single line ends as spaces; of the same length. Empty lines stay."""
    if not wrapped:
        return text
    before, after = f" {text}", f"{text} "[1:]
    return "".join(" " if c == "\n" and b != "\n" and a != "\n" else c for b, c, a in zip(before, text, after))


def lines_of(text: str, wrapped: bool, width: int) -> list[str]:
    """`text` as lines of a terminal, at most `width` columns; single line ends flow if the book is `wrapped`."""
    # A model may write any character, and some characters are commands to a terminal.
    lines = plain(flowing(text, wrapped)).expandtabs(4).split("\n")
    return [row for line in lines for row in textwrap.wrap(line, width) or [""]]
