"""What the models wrote, as the report shows it: side by side, with what is frequent and what is copied marked."""

from itertools import groupby
from typing import NamedTuple

from evaluate.report.tables import by_base
from evaluate.results import Checkpoint, Result, lr_label, run_label

Pieces = list[tuple[str, bool]]  # text, and whether its tokens are among the book's most frequent


class Part(NamedTuple):
    pieces: Pieces
    id: str = ""  # of the passage, on a copied part
    passage: str = ""  # of the book, around what was copied


class Prompt(NamedTuple):
    text: str
    columns: list[tuple[str, list[Part]]]  # who wrote, and the continuation


class Way(NamedTuple):
    """How the continuation of one prompt changes while a model learns."""

    prompt: str
    rates: list[tuple[str, list[tuple[int, list[Part]]]]]  # of each learning rate: (samples trained on, continuation)


def texts(results: list[Result]) -> list[tuple[str, list[Prompt]]]:
    """(label, prompts) for each base model: to each prompt what it, the runs compared with it, and the book wrote."""
    groups = by_base(results)
    return [(base, prompts(group, results, number)) for number, (base, group) in enumerate(groups)]


def prompts(group: list[Result], results: list[Result], number: int) -> list[Prompt]:
    finished = [(run_label(result, results), result["after"]) for result in group if result["after"]]
    writers = [("base model", group[0]["before"]), *finished, ("the book", group[0]["book"])]
    shown = []
    for i, prompt in enumerate(group[0]["prompts"]):
        columns = [
            (label, marked(written["continuations"][i], f"copy-{number}-{i}-{k}"))
            for k, (label, written) in enumerate(writers)
        ]
        shown.append(Prompt(flowing(prompt), columns))
    return shown


def as_it_learns(results: list[Result]) -> list[Way]:
    """The continuations at the checkpoints, prompt by prompt; of several seeds the first that has them."""
    runs: dict[float, list[Checkpoint]] = {}
    for result in results:
        kept = [checkpoint for checkpoint in result["checkpoints"] if "continuations" in checkpoint]
        if len(kept) > 1 and result["prompts"] == results[0]["prompts"]:
            runs.setdefault(result["lr"], kept)
    ways: dict[int, Way] = {}
    for k, (lr, kept) in enumerate(runs.items()):
        for i in range(len(kept[0]["continuations"])):
            steps = [(c["sample"], marked(c["continuations"][i], f"way-{i}-{k}-{c['sample']}")) for c in kept]
            ways.setdefault(i, Way(flowing(results[0]["prompts"][i]), [])).rates.append((lr_label(lr), steps))
    return list(ways.values())


def how_drawn(result: Result) -> str:
    """How the continuations were drawn: "temperature 0.8, among the 40 likeliest tokens"."""
    top_k = result["shown"]["top_k"]
    return (
        f"temperature {result['shown']['temperature']:g}, among {f'the {top_k} likeliest' if top_k else 'all'} tokens"
    )


def flowing(text: str) -> str:
    """`text` with single line ends as spaces, of the same length; empty lines stay."""
    before, after = f" {text}", f"{text} "[1:]
    return "".join(" " if c == "\n" and b != "\n" and a != "\n" else c for b, c, a in zip(before, text, after))


def marked(written: dict, name: str) -> list[Part]:
    """A continuation cut where copied runs begin and end.

    Args:
        name: begins the ids of its passages.
    """
    text, tokens, place = flowing("".join(written["pieces"])), [], 0
    for piece, frequent in zip(written["pieces"], written["frequent"]):
        tokens.append((text[place : place + len(piece)], frequent))
        place += len(piece)
    parts, place = [], 0
    for number, copy in enumerate(sorted(written["copies"], key=lambda copy: copy["start"])):
        start, end = max(place, copy["start"]), copy["start"] + copy["tokens"]
        if end <= start:  # inside another one
            continue
        parts.append(Part(joined(tokens[place:start])))
        parts.append(Part(joined(tokens[start:end]), f"{name}-{number}", flowing(copy["passage"])))
        place = end
    return [*parts, Part(joined(tokens[place:]))]


def joined(tokens: Pieces) -> Pieces:
    """Neighbours that are both frequent, or both not, as one piece."""
    groups = groupby(tokens, key=lambda token: token[1])
    return [("".join(text for text, _ in group), frequent) for frequent, group in groups]


def longest_copies(results: list[Result]) -> list[tuple[str, str]]:
    """The longest run of tokens that each model took word for word from the training text: (label, passage)."""
    bases = [(label, group[0]["before"]) for label, group in by_base(results)]
    runs = [(run_label(result, results), result["after"]) for result in results if result["after"]]
    copies = [(label, measured["longest_copy"]) for label, measured in bases + runs]
    return [(f"{label}: {copy['tokens']} tokens", f"“{flowing(copy['passage'])}”") for label, copy in copies]
