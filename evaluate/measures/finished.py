"""The ratio of finished models, measured again, in a table."""

from pathlib import Path

from evaluate.flags import filled
from evaluate.measures.reference import write
from evaluate.results import RESULT_FILE, read_result
from evaluate.settings import Sampling
from evaluate.setup import Setup, open_setup
from model.device import Machine
from model.pretrained import load_pretrained


def table_of(folders: list[str], usual: dict, asked: dict, machine: Machine) -> str:
    """Let the models in `folders` write, and tabulate the share of frequent tokens.

    A run is measured as it measured itself, a model beside it as the first run is.

    Args:
        usual: how a model is measured if nobody says otherwise: fields of `Sampling`, text and raw_text.
        asked: of these what goes for all.

    Raises:
        ValueError, OSError: with one line on what to do.
    """
    settings = [settings_in(Path(folder)) for folder in folders]
    own = [{} if found is None else terms_of(found, usual) for found in settings]
    of_the_first = next(filter(None, own), {})
    opened = []  # all of them before the first is measured: a wrong name shall not cost the time of the others
    for folder, found, terms in zip(folders, settings, own):
        terms = usual | (terms or of_the_first) | asked
        setup = open_setup(folder, terms["text"], raw_text=terms["raw_text"])
        if found is not None and "text" not in asked:
            refuse_changed_text(folder, found, setup)
        opened.append((folder, setup, filled(Sampling, terms)))
    titles = ["model", "text", "written", "ratio (95 %)", "expected, without top-k at temperature 1"]
    rows = [f"| {' | '.join([*titles, 'the book itself'])} |", "|---|---|---|---|---|---|"]
    return "\n".join(rows + [row(folder, setup, sampling, machine) for folder, setup, sampling in opened])


def settings_in(folder: Path) -> dict | None:
    """The settings of the run in `folder`; None where it is no run folder."""
    return read_result(folder)["settings"] if (folder / RESULT_FILE).is_file() else None


def terms_of(settings: dict, usual: dict) -> dict:
    """How a run itself was measured, by the names of `usual`."""
    named = {"sequences": settings["eval_sequences"], "new_tokens": settings["eval_tokens"]}
    return {name: named.get(name, settings.get(name)) for name in usual}


def refuse_changed_text(folder: str, settings: dict, setup: Setup) -> None:
    """Raise a ValueError where the text of the run in `folder` is not there any more as it was."""
    was, now = settings["text_sha256"], setup.book.sha256
    if was != now:
        raise ValueError(
            f"the text {setup.asked['text']} is not the one that {folder} was trained on (sha256 {now[:8]}, was {was[:8]}); "
            "name the text to measure it by with --text"
        )


def row(name: str, setup: Setup, sampling: Sampling, machine: Machine) -> str:
    """Let the model of `setup` write, and say what came out and how it was measured."""
    written = write(setup, load_pretrained(setup.folder).to(machine.device), sampling, machine, name)
    low, high = written.ratio.ratio_ci
    cells = [
        name,
        setup.book.name + (" (as served)" if setup.book.raw else ""),
        f"{sampling.sequences} x {sampling.new_tokens} tokens, temperature {sampling.temperature:g}, "
        f"top-k {sampling.top_k or 'off'}, seed {sampling.seed}, {machine.dtype_name}",
        f"{written.ratio.ratio:.3f} ({low:.3f} to {high:.3f})",
        f"{written.untruncated.mean():.3f}",
        f"{setup.book_ratio:.3f}",
    ]
    return f"| {' | '.join(cells)} |"
