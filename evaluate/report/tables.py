"""The report's tables: a row for each model, and what stands in its cells.

A cell is a list of strings: the figure, and what stands small below it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from evaluate.report.verdicts import Verdict, in_words, percent, perplexity
from evaluate.results import Result, final_loss, own_terms_label, run_label


@dataclass(frozen=True)
class Row:
    label: str
    cells: dict[str, list[str]]  # by the title of the column; {} for a run without a model
    verdicts: list[str] = field(default_factory=list)
    yardstick: bool = False  # the base model or the book, and not a run
    gone: str = ""  # why there are no cells


def look_up(measured: dict, *keys: str) -> object:
    """The figure under `keys`, one inside the other, or None if it was not measured."""
    for key in keys:
        measured = measured.get(key) if isinstance(measured, dict) else None
    return measured


def number(value: float | None, digits: int = 3) -> str:
    # Of what exploded nobody wants the thousandths.
    return "–" if value is None else f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.{digits}f}"


def with_interval(measured: dict, *keys: str, write: Callable[[float], str] = number) -> list[str]:
    """The figure under `keys` with its interval below it, as far as they were measured."""
    value, interval = look_up(measured, *keys), look_up(measured, *keys[:-1], f"{keys[-1]}_ci")
    if value is None:
        return ["–"]
    return [write(value), " to ".join(map(write, interval))] if interval else [write(value)]


def loss_and_perplexity(measured: dict) -> list[str]:
    loss = look_up(measured, "held_out", "loss")
    return ["–"] if loss is None else [number(loss), f"({perplexity(loss)})"]


def ratio_and_expected(measured: dict) -> list[str]:
    expected, own = look_up(measured, "expected_ratio"), measured.get("own_terms_label")
    lines = with_interval(measured, "ratio") + ([] if expected is None else [f"expected {number(expected)}"])
    return [*lines, f"{own} {number(measured['untruncated_ratio'])}"] if own else lines


def repeated_and_distinct(measured: dict) -> list[str]:
    repeated, distinct = look_up(measured, "repeated"), look_up(measured, "distinct")
    return [f"{'–' if repeated is None else percent(repeated)} / {number(distinct[1]) if distinct else '–'}"]


def longest(measured: dict) -> list[str]:
    tokens = look_up(measured, "longest_copy", "tokens")
    return ["–" if tokens is None else f"{tokens} tokens"]


def novelty(measured: dict, n: int) -> list[str]:
    """The share of the runs of `n` tokens that are not in the training text, in percent; of an `n` too long for the
    texts there is none."""
    shares = look_up(measured, "novelty") or []
    return [f"{100 * shares[n - 1]:.1f}" if n <= len(shares) else "–"]


# The title of a column, and what stands in it for an evaluation, as `before` and `after` of a result are.
Columns = dict[str, Callable[[dict], list[str]]]
MAIN_COLUMNS: Columns = {
    "held-out loss (perplexity)": loss_and_perplexity,
    "ratio": ratio_and_expected,
    "divergence (bits)": lambda m: with_interval(m, "divergence", write=partial(number, digits=4)),
    "copied": lambda m: with_interval(m, "copied", write=percent),
    "KL to base (nats)": lambda m: with_interval(m, "forgetting", "base_texts", "kl"),
    "repeated / distinct-2": repeated_and_distinct,
}
FURTHER_COLUMNS: Columns = {
    "training loss: first, last tenth": lambda m: [m.get("training", "–")],
    "ratio of words": lambda m: with_interval(m, "letters_ratio"),
    "extraction: training": lambda m: with_interval(m, "extraction", "training", write=percent),
    "extraction: held-out": lambda m: with_interval(m, "extraction", "held_out", write=percent),
    "longest copy": longest,
    "distinct-1 / -2 / -3": lambda m: [" / ".join(map(number, look_up(m, "distinct") or [])) or "–"],
    "perplexity under base": lambda m: [number(look_up(m, "base_perplexity"), 1)],
    "loss increase on base texts": lambda m: with_interval(m, "forgetting", "base_texts", "loss_increase"),
    "KL on general text": lambda m: with_interval(m, "forgetting", "general", "kl"),
}
NOVELTY_COLUMNS: Columns = {f"n = {n}": partial(novelty, n=n) for n in range(1, 11)}


def filled(columns: Columns, measured: dict) -> dict[str, list[str]]:
    return {title: write(measured) for title, write in columns.items()}


def figure_rows(columns: Columns, results: list[Result], verdicts: list[Verdict]) -> list[Row]:
    """The base model, every run, the book: one row each."""
    rows = []
    for label, (first, *_) in by_base(results):
        base = first["before"] | {"own_terms_label": own_terms_label(first)}
        rows.append(Row(label, filled(columns, base), yardstick=True))
    for result in results:
        label, mine = run_label(result, results), verdicts_on(result, verdicts)
        if result["after"]:
            training = f"{result['train_loss'][0]:.3f}, {final_loss(result):.3f}"
            added = {"training": training, "own_terms_label": own_terms_label(result)}
            rows.append(Row(label, filled(columns, result["after"] | added), mine))
        else:
            gone = f"diverged after sample {len(result['train_loss'])}: there is no model to measure"
            rows.append(Row(label, {}, mine, gone=gone))
    # Where nothing is held out, the ratio of the whole book is all that is known of it.
    measured = [result["book"] for result in results if "ratio" in result["book"]]
    book = measured[0] if measured else {"ratio": results[0]["book_ratio"]}
    label = "the book, held-out part" if measured else "the book"
    return [*rows, Row(label, filled(columns, book), yardstick=True)]


def verdicts_on(result: Result, verdicts: list[Verdict]) -> list[str]:
    """The names of the `verdicts` on one run, and of those on its learning rate if it finished."""
    mine = [v for v in verdicts if v.lr == result["lr"] and v.seed in (None, result["seed"])]
    return [f"{v.name} {v.when}".strip() for v in mine if result["after"] or v.seed is not None]


def by_base(results: list[Result]) -> list[tuple[str, list[dict]]]:
    """(label of the base model, the runs compared with it) for every evaluation of the base model.

    There is one, unless sweeps with other luck are put together: the seeds of one sweep all share it.
    """
    groups: dict[tuple, list[dict]] = {}
    for result in results:
        groups.setdefault((*result["before"]["shares"], *result["prompts"]), []).append(result)
    if len(groups) == 1:
        return [("base model", results)]
    seeds = [in_words(sorted({f"{result['seed']}" for result in group})) for group in groups.values()]
    return [(f"base model, seed {seed}", group) for seed, group in zip(seeds, groups.values())]
