"""One page that holds a sweep: conclusion, figures, table, texts side by side, and how the runs were made.

The page is a single file without scripts, and it loads nothing from a network. Its words and markup are in report.html,
its style in report.css.
"""

import base64
import tempfile
from collections.abc import Sequence
from pathlib import Path

from data.files import write_text
from data.settings import RATINGS_FILE
from evaluate.rate.contest import read_ratings
from evaluate.rate.preferences import preferences
from evaluate.report.texts import as_it_learns, how_drawn, longest_copies, texts
from evaluate.results import RESULT_FILE, TITLES, Run, describe, find_runs, lr_label, settings_that_differ
from evaluate.table import SEEDS_LEAD, columns_of, gone, notes, rows_of, seed_rows
from evaluate.template import fill
from evaluate.valleys import VALLEYS, valleys
from evaluate.verdicts import FITS_BEST, RISES, RULES, conclusion, in_words, judge
from model.hub import file_sha256


def write_report(folders: Sequence[str | Path], file: Path, pictures: Sequence[Path] | None = None) -> Path:
    """Write the page on the runs in `folders` (run folders or sweep folders) to `file`, and return it.

    Args:
        pictures: PNG files of the figures of these runs; None: they are drawn.
    """
    runs = find_runs(folders)
    from evaluate.report.plots import plot_all  # only here: it loads the library that draws

    with tempfile.TemporaryDirectory() as folder:
        pictures = plot_all(runs, Path(folder)) if pictures is None else pictures
        encoded = {picture.name: base64.b64encode(picture.read_bytes()).decode("ascii") for picture in pictures}
    ratings = [folder / RATINGS_FILE for folder in map(Path, folders) if (folder / RATINGS_FILE).is_file()]
    write_text(file, page(runs, encoded, read_ratings(ratings)))
    return file


def page(runs: list[Run], figures: dict[str, str], ratings: list[dict]) -> str:
    """The whole page on `runs` (see `find_runs`).

    Args:
        figures: {file name: PNG in base64} of each picture.
        ratings: as `read_ratings` gives them.
    """
    verdicts, not_made = judge(runs)
    columns = columns_of(runs)
    shown = [(Path(name).stem, TITLES[name], f"data:image/png;base64,{data}") for name, data in figures.items()]
    return fill(
        Path(__file__).with_name("report.html"),
        subject=describe(runs),
        conclusion=conclusion(runs),
        titles=[column.title for column in columns],
        rows=[(row, gone(row), [column.cell(row) for column in columns]) for row in rows_of(runs)],
        notes=notes(runs),
        seed_rows=seed_rows(runs),
        seeds_lead=SEEDS_LEAD,
        valleys=valleys(runs),
        valleys_lead=f"{VALLEYS}.",
        verdicts=verdicts,
        not_judged=[f"{name} ({in_words(labels or ['all runs'])}): {why}" for (name, why), labels in not_made.items()],
        rules=[FITS_BEST, RISES, *((rule.name, rule.words) for rule in RULES)],
        figures=shown,
        gone=[run.label for run in runs if not run.after],
        learning=as_it_learns(runs),
        texts=texts(runs),
        wrapped=runs[0].wrapped,
        drawn=how_drawn(runs[0].result),
        longest_copies=longest_copies(runs),
        ratings=preferences(runs, ratings) if ratings else None,
        min_copy_length=max(run.result["least_copy"] for run in runs),
        **provenance(runs),
    )


def provenance(runs: list[Run]) -> dict:
    """How the runs were made: settings, machine, time, and the result files that the page is made from."""
    first = runs[0].result
    # Learning rate, levers and seed are in the names of the runs.
    left_out = ("lr", "seed", "model_identity", "text_notes", *settings_that_differ(run.result for run in runs))
    settings = {name: value for name, value in first["settings"].items() if name not in left_out}
    settings |= {f"model {name}": value for name, value in first["settings"]["model_identity"].items()}
    settings |= {name: first[name] for name in ("book_tokens", "held_out_tokens")}
    machines = [{k: v for k, v in run.result["environment"].items() if k != "seconds"} for run in runs]
    files = [(run, run.folder / RESULT_FILE) for run in runs]
    times = {run.label: run.result["environment"]["seconds"] for run in runs}
    return {
        "text_notes": list(dict.fromkeys(note for run in runs for note in run.result["settings"]["text_notes"])),
        "times": {
            label: f"{sum(seconds.values()) / 60:.1f} "
            f"({', '.join(f'{name} {value / 60:.1f}' for name, value in seconds.items())})"
            for label, seconds in times.items()
        },
        "files": [(run.label, Path(*file.parts[-3:]), file_sha256(file)) for run, file in files],
        "settings": {name: written(value) for name, value in settings.items()},
        "machine": {name: written(value) for name, value in machines[0].items()},
        "other_machines": any(machine != machines[0] for machine in machines),
    }


def written(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(written, value))
    return "–" if value is None else lr_label(value) if isinstance(value, float) and 0 < value < 1e-3 else str(value)
