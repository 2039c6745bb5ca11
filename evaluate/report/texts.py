"""What the models wrote, as the report shows it: side by side, frequent tokens and copied runs marked."""

from itertools import groupby
from typing import NamedTuple

from evaluate.results import EvalPoint, Evaluation, Result, Run
from evaluate.table import flowing, rows_of

Pieces = list[tuple[str, bool]]  # text, and whether its tokens are among the book's most frequent


class Part(NamedTuple):
    pieces: Pieces
    id: str = ""  # of the passage, on a copied part
    passage: str = ""  # of the book, around what was copied


def texts(runs: list[Run]) -> list[tuple[str, list[tuple[str, list[Part]]]]]:
    """(prompt, [(who wrote, continuation)]) of the models and the book, for each prompt."""
    writers = [*models(runs), ("the book", runs[0].result["book"])]
    shown = []
    for i, prompt in enumerate(runs[0].result["prompts"]):
        found = [(who, of["continuations"][i], f"copy-{i}-{k}") for k, (who, of) in enumerate(writers)]
        written = [(who, marked(continuation, name, runs[0].wrapped)) for who, continuation, name in found]
        shown.append((flowing(prompt, runs[0].wrapped), written))
    return shown


def models(runs: list[Run]) -> list[tuple[str, Evaluation]]:
    """All models that the table measures, with their labels there."""
    *rows, _ = rows_of(runs)  # without the book
    return [(row.label, row.measured) for row in rows if row.measured]


def as_it_learns(runs: list[Run]) -> list[tuple[str, list[tuple[str, list[tuple[int, list[Part]]]]]]]:
    """(prompt, [(learning rate, [(step, continuation)])]) during training; of several seeds the first."""
    points_of: dict[str, list[EvalPoint]] = {}
    for run in runs:
        kept = [point for point in run.result["checkpoints"] if "continuations" in point]
        if len(kept) > 1:
            points_of.setdefault(run.name, kept)
    run, shown = runs[0], []
    for i in range(min((len(kept[0]["continuations"]) for kept in points_of.values()), default=0)):
        rates = [
            (name, [(n := p["sample"], marked(p["continuations"][i], f"way-{i}-{k}-{n}", run.wrapped)) for p in kept])
            for k, (name, kept) in enumerate(points_of.items())
        ]
        shown.append((flowing(run.result["prompts"][i], run.wrapped), rates))
    return shown


def how_drawn(result: Result) -> str:
    """How the continuations were drawn: "temperature 0.8, among the 40 likeliest tokens"."""
    top_k = result["shown"]["top_k"]
    return (
        f"temperature {result['shown']['temperature']:g}, among {f'the {top_k} likeliest' if top_k else 'all'} tokens"
    )


def marked(written: dict, name: str, wrapped: bool) -> list[Part]:
    """A continuation cut where copied runs begin and end.

    Args:
        name: begins the ids of its passages.
        wrapped: whether the book is (see `flowing`).
    """
    text, tokens, place = flowing("".join(written["pieces"]), wrapped), [], 0
    for piece, frequent in zip(written["pieces"], written["frequent"]):
        tokens.append((text[place : place + len(piece)], frequent))
        place += len(piece)
    parts, place = [], 0
    for number, copy in enumerate(sorted(written["copies"], key=lambda copy: copy["start"])):
        start, end = max(place, copy["start"]), copy["start"] + copy["tokens"]
        if end <= start:  # inside another one
            continue
        parts.append(Part(joined(tokens[place:start])))
        parts.append(Part(joined(tokens[start:end]), f"{name}-{number}", flowing(copy["passage"], wrapped)))
        place = end
    return [*parts, Part(joined(tokens[place:]))]


def joined(tokens: Pieces) -> Pieces:
    """Neighbours that are both frequent, or both not, as one piece."""
    groups = groupby(tokens, key=lambda token: token[1])
    return [("".join(text for text, _ in group), frequent) for frequent, group in groups]


def longest_copies(runs: list[Run]) -> list[tuple[str, str]]:
    """The longest run of tokens that each model took word for word from the training text: (label, passage)."""
    copies = [(label, measured["longest_copy"]) for label, measured in models(runs)]
    return [(f"{name}: {c['tokens']} tokens", f"“{flowing(c['passage'], runs[0].wrapped)}”") for name, c in copies]
