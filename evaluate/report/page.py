"""One page that holds a sweep: the answer, the figures, the texts side by side, and how it was made.

The page is a single file without scripts that asks nothing of any network. Its words and markup are in report.html,
its looks in report.css; here and beside it is worked out what it shows.
"""

import base64
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from data.settings import RATINGS_FILE
from evaluate.rate.contest import read_ratings
from evaluate.rate.outcome import preferences
from evaluate.report.captions import caption, what_was_done
from evaluate.report.chance import SEEDS_LEAD, sampling_noise, seed_rows, training_noise
from evaluate.report.making import making, settings_that_differ
from evaluate.report.tables import FURTHER_COLUMNS, MAIN_COLUMNS, NOVELTY_COLUMNS, figure_rows
from evaluate.report.template import fill
from evaluate.report.texts import as_it_learns, how_drawn, longest_copies, texts
from evaluate.report.titles import FIGURE_FILE, HELD_OUT_FILE, TITLES
from evaluate.report.verdicts import RULES, NotMade, answer, judge
from evaluate.results import (
    RESULT_FILE,
    Result,
    describe,
    find_results,
    least_copy,
    lr_label,
    read_result,
    run_folders,
    run_label,
)
from model.hub import file_sha256


def write_report(folders: Sequence[str | Path], file: Path, pictures: Sequence[Path] | None = None) -> Path:
    """Write the page on the runs in `folders` (run folders or sweep folders) to `file`, and return it.

    Args:
        pictures: PNG files of the figures of these runs; None: they are drawn.

    Raises:
        ValueError, OSError: with one line on what to do.
    """
    runs = run_folders(folders)
    results = find_results(runs)
    files: dict[str, tuple[Path, str]] = {}  # {run: (file, sha256)}
    for folder in runs:
        result = read_result(folder)
        label = run_label(result, results)
        if label in files:
            raise ValueError(
                f"{folder} is a second run at {lr_label(result['lr'])} with seed {result['seed']}; "
                "name runs that differ in learning rate or seed"
            )
        file_of_run = folder / RESULT_FILE
        files[label] = Path(*file_of_run.parts[-3:]), file_sha256(file_of_run)
    from evaluate.report.plots import plot_all  # only here: it loads the library that draws

    with tempfile.TemporaryDirectory() as folder:
        pictures = plot_all(results, Path(folder)) if pictures is None else pictures
        figures = {picture.name: data_url(picture) for picture in pictures}
    ratings = [folder / RATINGS_FILE for folder in map(Path, folders) if (folder / RATINGS_FILE).is_file()]
    file.write_text(page(results, figures, files, read_ratings(ratings)), encoding="utf-8")
    return file


def data_url(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode('ascii')}"


def page(
    results: list[Result], figures: dict[str, str], files: dict[str, tuple[Path, str]], ratings: list[dict]
) -> str:
    """The whole page.

    Args:
        results: as `find_results` gives them.
        figures: {file name: data URL} of each picture.
        files: {run: (result file, sha256)}.
        ratings: as `read_ratings` gives them.
    """
    verdicts, not_made = judge(results)
    shown = [(Path(name).stem, TITLES[name], url, caption(Path(name).stem, results)) for name, url in figures.items()]
    main = [Path(name).stem for name in (FIGURE_FILE, HELD_OUT_FILE)]
    return fill(
        Path(__file__).with_name("report.html"),
        subject=describe(results),
        done=what_was_done(results),
        answer=answer(results, verdicts, not_made),
        differing=[name for name in settings_that_differ(results) if name not in ("lr", "seed")],
        main_rows=figure_rows(MAIN_COLUMNS, results, verdicts),
        seed_rows=seed_rows(results),
        seeds_lead=SEEDS_LEAD,
        verdicts=verdicts,
        not_judged=not_judged(not_made),
        sampling_noise=sampling_noise(results),
        training_noise=training_noise(results),
        rules=[(name, rule[0].upper() + rule[1:]) for name, rule in RULES],
        main_figures=[figure for figure in shown if figure[0] in main],
        other_figures=[figure for figure in shown if figure[0] not in main],
        further_rows=figure_rows(FURTHER_COLUMNS, results, verdicts),
        novelty_rows=figure_rows(NOVELTY_COLUMNS, results, verdicts),
        gone=[run_label(result, results) for result in results if not result["after"]],
        learning=as_it_learns(results),
        texts=texts(results),
        drawn=how_drawn(results[0]),
        longest_copies=longest_copies(results),
        ratings=preferences(results, ratings) if ratings else None,
        least_copy=least_copy(results),
        files=files,
        **making(results),
    )


def not_judged(not_made: list[NotMade]) -> list[str]:
    """Which verdicts the results have no figures for, and why: one line for the runs with the same reason."""

    def by_reason(one: NotMade) -> tuple[str, str]:
        return one.name, one.reason

    lines = []
    for (name, reason), group in groupby(sorted(not_made, key=by_reason), key=by_reason):
        runs = ", ".join(filter(None, (one.run for one in group)))
        lines.append(f"{name}{f' ({runs})' if runs else ''}: {reason}")
    return lines
