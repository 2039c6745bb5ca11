"""The figures, read back from their axes, and the command that draws them."""

import io
import os
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from evaluate import plot as plot_command
from evaluate.report import plots
from evaluate.results import FIGURE_FILE, HELD_OUT_FILE, LEVERS_FILE, PRICE_FILE, TITLES, runs_of
from tests.evaluate.handmade import (
    diverged,
    evaluation,
    nothing_held_out,
    result_of,
    with_levers,
    with_losses,
    write_runs,
)

FALLING = [5 - 0.1 * i for i in range(40)]
TURNS = [5.0, 4.5, 4.2, 4.3, 4.6]
GONE = with_losses(diverged(1.0, [5.0, 9.0]), [5.0])
OF_ONE = [FIGURE_FILE, HELD_OUT_FILE, PRICE_FILE]  # the valleys would be single dots


def drawn(panel, *results) -> Axes:
    ax, runs = Figure().subplots(), runs_of([*results])
    panel(ax, runs, plots.styles_of(runs))
    return ax


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def bars(ax: Axes) -> list:
    """Of the ratio; the book's band is a patch too."""
    return [patch for patch in ax.patches if not patch.get_alpha()]


def run(lr=1e-3, losses=TURNS, training=FALLING, **changes) -> dict:
    return with_losses(result_of(lr, train_loss=training, **changes), losses)


def files(folder, *results) -> list[str]:
    return [file.name for file in plots.plot_all(runs_of([*results]), folder)]


def test_every_learning_rate_has_its_colour_in_every_figure():
    alone = plots.style_of([1e-5])[1e-5]
    assert plots.style_of([1e-4, 1e-5, 1e-6])[1e-5] == alone == plots.style_of([1e-2, 1e-5, 3e-4])[1e-5]
    styles = plots.style_of([1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6]).values()
    assert len({style["color"] for style in styles}) == len({style["marker"] for style in styles}) == 6
    assert plots.style_of([1e-3, 1e-4, 1e-3, 1e-4]) == plots.style_of([1e-3, 1e-4])  # two seeds of each
    many = plots.style_of([10.0 ** (-n / 2) for n in range(20)]).values()  # more than there are colours
    assert len({(style["color"], style["marker"]) for style in many}) == 20
    assert len({style["color"] for style in plots.style_of([1e-4, 1.1e-4, 1.2e-4]).values()}) == 3


def test_a_run_that_exploded_leaves_the_others_their_scale():
    """The base model's loss is 5: what is above 10 is off the scale."""
    calm = run(1e-4, [5.0, 4.5, 4.2, 4.1, 4.0])
    wild = run(1e2, [5.0, 9e5, 8e5, 7e5, 6e5], [5.0] + [9e5] * 39)
    just = run(1e-2, [5.0, 9.0, 9.5, 9.8, 9.9], [5.0] + [9.9] * 39)
    results = [wild, GONE, just, calm]
    for panel in (plots.plot_loss, plots.plot_held_out):
        ax = drawn(panel, *results)
        assert ax.get_ylim()[1] < 13 and ax.get_ylim()[0] < 4.1, panel
        ax.figure.draw_without_rendering()
        shown = [*legend(ax), *(text.get_text() for text in ax.texts)]
        assert any(text.startswith("1e2") and "off the scale" in text for text in shown), panel
        assert not any(text.startswith("1e-2") and "off" in text for text in shown), panel
        # Above the panel it can hide nothing.
        assert ax.get_legend().get_window_extent().y0 >= ax.bbox.y1
    assert drawn(plots.plot_held_out, calm).get_ylim()[1] < 5.2  # where nothing exploded nothing is cut


def test_the_running_mean_is_centred():
    """And it begins at the true first value."""
    assert plots.smooth([0.0, 3.0, 6.0, 0.0], 3).tolist() == [0.0, 3.0, 3.0, 3.0]
    assert plots.smooth([9.0, 0.0, 0.0, 6.0, 0.0, 0.0], 5).tolist() == [9.0, 3.0, 3.0, 1.2, 1.5, 2.0]
    assert plots.smooth([1.0, 2.0], 1).tolist() == [1.0, 2.0]


def test_the_figure_shows_the_numbers():
    after = {1e-4: 0.55, 1e-5: 0.52, 1e-6: 0.501}
    training = {lr: [4 - 100 * lr * i for i in range(40)] for lr in after}
    results = [run(lr, training=training[lr], after=evaluation(ratio)) for lr, ratio in after.items()]
    colours = [style["color"] for style in plots.style_of(list(after)).values()]
    ax = drawn(plots.plot_loss, *results)
    lines = [line for line in ax.get_lines() if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == ["1e-4", "1e-5", "1e-6"]
    for line, colour, losses in zip(lines, colours, training.values()):
        np.testing.assert_allclose(line.get_ydata(), plots.smooth(losses, 3))
        assert line.get_xdata().tolist() == list(range(1, 41)) and line.get_color() == colour
        assert any(np.array_equal(raw.get_ydata(), losses) for raw in ax.get_lines())
    ax = drawn(plots.plot_ratio, *results)
    assert [bar.get_height() for bar in bars(ax)] == [0.5, 0.55, 0.5, 0.52, 0.5, 0.501]
    assert [bar.get_facecolor()[:3] for bar in bars(ax)[1::2]] == [to_rgb(colour) for colour in colours]
    assert any(
        np.allclose(line.get_xydata()[:, 1], 0.531) for line in ax.get_lines()
    ) and "the book, held out: 0.531" in legend(ax)
    band = next(patch for patch in ax.patches if patch.get_alpha())
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((0.522, 0.54))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1e-4", "1e-5", "1e-6"]


def test_of_several_seeds_the_bar_is_the_mean():
    """And each seed a dot; a whisker would be the noise of one seed's writing. Before training there is one model."""
    ax = drawn(plots.plot_ratio, run(after=evaluation(0.5)), run(after=evaluation(0.6), seed=1))
    assert [bar.get_height() for bar in bars(ax)] == [0.5, pytest.approx(0.55)]
    dots = [line.get_ydata().tolist() for line in ax.get_lines() if line.get_marker() == "o"]
    assert dots == [[0.5, 0.6]] and [text.get_text() for text in ax.texts] == ["0.500", "0.550"]
    assert [lines.get_segments()[0][:, 1].tolist() for lines in ax.collections] == [pytest.approx([0.48, 0.52])]


def test_error_bars_reach_from_low_to_high():
    before, after = evaluation(0.4, ratio_ci=[0.3, 0.41]), evaluation(0.5, ratio_ci=[0.45, 0.6])
    ax = drawn(plots.plot_ratio, result_of(before=before, after=after))
    spans = [lines.get_segments()[0][:, 1].tolist() for lines in ax.collections]
    assert spans == [pytest.approx([0.3, 0.41]), pytest.approx([0.45, 0.6])]


def test_one_text_has_no_whisker():
    ax = drawn(plots.plot_ratio, result_of(before=evaluation(ratio_ci=None), after=evaluation(ratio_ci=None)))
    assert not ax.collections and len(bars(ax)) == 2


@pytest.mark.parametrize(
    ("how", "words", "marks"),
    [
        ({}, "expected with top-k 50", [[-0.2, 0.55], [0.2, 0.7]]),
        ({"top_k": 50}, "expected without top-k", [[-0.2, 0.47], [0.2, 0.62]]),
    ],
)
def test_the_ratio_of_the_other_top_k_is_marked(how, words, marks):
    ax = drawn(plots.plot_ratio, with_levers(result_of(before=evaluation(0.5), after=evaluation(0.65)), **how))
    found = [line.get_xydata()[0].tolist() for line in ax.get_lines() if line.get_marker() == "d"]
    assert found == [pytest.approx(mark) for mark in marks] and words in legend(ax)


def test_held_out_losses_beside_those_on_the_training_text():
    result = run()
    training, measured = drawn(plots.plot_held_out, result).get_lines()
    assert measured.get_xydata().tolist() == [[10 * i, loss] for i, loss in enumerate(TURNS)]
    np.testing.assert_allclose(training.get_xydata(), [[10 * i, 4.0 - 0.01 * i] for i in range(5)])
    assert training.get_color() == measured.get_color()


def test_by_the_clock_every_rate_draws_one_curve():
    """1e-4 has the losses of 1e-3, ten times later. 1e-2 is always above the panel."""
    seeds = [run(1e-4, [5.0, 4.9, 4.8, 4.7, 4.6], seed=seed) for seed in (0, 1)]
    results = [GONE, run(1e-2, [5.0, 9.0, 9.0, 9.0, 9.0]), run(), *seeds]
    ax = drawn(plots.plot_clock, *results)
    assert set(legend(ax)) == {"base model", "1e0 (above)", "1e-2 (above)", "1e-3", "1e-4", "its lowest loss"}
    curves = {line.get_label(): line.get_xydata() for line in ax.get_lines()}
    np.testing.assert_allclose(curves["1e-3"], [[1e-2, 4.5], [2e-2, 4.2], [3e-2, 4.3], [4e-2, 4.6]])
    np.testing.assert_allclose(curves["1e-4"][:, 0], [1e-3, 2e-3, 3e-3, 4e-3])
    rings = [line.get_xydata() for line in ax.get_lines()[:-1] if line.get_markersize() == 10]
    np.testing.assert_allclose(np.concatenate(rings), [[2e-2, 4.2], [4e-3, 4.6], [4e-3, 4.6]])
    assert ax.get_xscale() == "log" and ax.get_xlim() == pytest.approx((1e-3 / 1.3, 4e-2 * 1.3))
    assert ax.get_ylim() == pytest.approx((3.9, 8.2))  # the best falls by 0.8
    drawn(plots.plot_clock, GONE)  # nothing is seen


def test_the_valley_of_runs_stopped_in_time_is_beside_that_of_their_ends():
    seeds = [run(1e-4, [5.0, 4.9, 4.4], seed=0), run(1e-4, [5.0, 4.2, 4.6], seed=1)]
    ax = drawn(plots.plot_valleys, GONE, run(1e-2, [5.0, 9.0, 9.1]), run(), *seeds)
    stopped, at_the_end = (line.get_xydata() for line in ax.get_lines() if len(line.get_xdata()) > 2)
    np.testing.assert_allclose(stopped, [[1e-4, 4.3], [1e-3, 4.2], [1e-2, 5.0], [1.0, 5.0]])
    np.testing.assert_allclose(at_the_end, [[1e-4, 4.5], [1e-3, 4.6], [1e-2, 9.1]])
    dots = {(*line.get_xydata()[0],) for line in ax.get_lines() if line.get_markersize() == 8 and len(line.get_xdata())}
    assert dots >= {(1e-4, 4.4), (1e-4, 4.2), (1e-4, 4.6), (1e-3, 4.2), (1e-3, 4.6), (1e-2, 5.0), (1.0, 5.0)}
    crosses = [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "x"]
    assert dict(zip(crosses, (text.get_text() for text in ax.texts))) == {1e-2: "9.1", 1.0: "diverged"}


LEASH = {"leash": 2.0}


def of_levers() -> list[dict]:
    """Two rates without a lever, the same with a leash, of which one ends above the panel and one diverges."""
    return [
        run(1e-3, [5.0, 4.5, 4.2]),
        run(1e-4, [5.0, 4.9, 4.8]),
        with_levers(run(1e-3, [5.0, 4.4, 4.0]), **LEASH),
        with_levers(run(1e-4, [5.0, 4.9, 9.5]), **LEASH),
        with_levers(with_losses(diverged(1e-2, [5.0, 9.0]), [5.0]), **LEASH),
        run(1e-2, [5.0, 9.0, 9.5]),
    ]


def test_every_lever_has_a_valley():
    """Thick at the end, thin where it turned; both rates and levers can be told apart without colours."""
    ax = drawn(plots.plot_valleys, *of_levers(), run(1e-3, [5.0, 4.5, 4.4], seed=1))
    lines = {line.get_label(): line for line in ax.get_lines() if line.get_linewidth() == 2}
    assert list(lines) == ["plain", "leash 2"]
    np.testing.assert_allclose(lines["plain"].get_xydata(), [[1e-4, 4.8], [1e-3, 4.3], [1e-2, 9.5]])
    np.testing.assert_allclose(lines["leash 2"].get_xydata(), [[1e-4, 9.5], [1e-3, 4.0], [1e-2, np.inf]])
    thin = [line.get_ydata().tolist() for line in ax.get_lines() if line.get_linewidth() == 0.8]
    assert thin[:2] == [[4.8, pytest.approx(4.3), 5.0], [4.9, 4.0, 5.0]]
    for look in ("get_color", "get_linestyle", "get_marker"):
        assert len({getattr(line, look)() for line in lines.values()}) == 2
    assert not {line.get_color() for line in lines.values()} & set(plots.COLOURS)
    assert set(legend(ax)) == {"base model", "plain", "leash 2", "thin: stopped in time"}
    assert ax.get_xscale() == "log"


def test_by_the_clock_a_schedule_adds_its_own_rates():
    """1e-3 for ten steps and then half of it: 0.01, 0.015."""
    halved = with_levers(run(1e-3, [5.0, 4.4, 4.0], rates=[1e-3] * 10 + [5e-4] * 30), schedule="linear")
    ax = drawn(plots.plot_clock, *of_levers(), halved)
    curves = {line.get_label().strip("_"): line.get_xydata() for line in ax.get_lines()}
    np.testing.assert_allclose(curves["1e-3 linear"], [[1e-2, 4.4], [1.5e-2, 4.0]])
    np.testing.assert_allclose(curves["1e-3 leash 2"], [[1e-2, 4.4], [2e-2, 4.0]])
    assert [text for text in legend(ax) if text] == ["base model", "1e-2", "1e-3", "1e-4"]


def test_the_price_is_how_far_the_model_moved():
    ax = drawn(plots.plot_price, *of_levers())
    paths = {line.get_label().strip("_"): line for line in ax.get_lines()}
    np.testing.assert_allclose(paths["1e-3 leash 2"].get_xydata(), [[0.5, 5.0], [0.44, 4.4], [0.4, 4.0]])
    assert [paths[name].get_markevery() for name in ("1e-3", "1e-2 leash 2")] == [[-1], []]
    assert ax.get_xlim() == (0, 0.75) and "KL" in ax.get_xlabel() and ax.get_ylabel() == "nats per token"


def test_with_levers_the_legend_has_rates_and_levers_not_runs():
    found = {text for text in legend(drawn(plots.plot_loss, *of_levers())) if text}
    assert found == {"1e-2", "1e-3", "1e-4", "plain", "leash 2", "mean of 3 steps", "each step"}
    styles = plots.styles_of(runs_of(of_levers()))
    assert styles["1e-3"]["color"] == styles["1e-3 leash 2"]["color"] == plots.style_of([1e-3])[1e-3]["color"]
    assert styles["1e-3"]["marker"] == styles["1e-4"]["marker"] != styles["1e-3 leash 2"]["marker"]
    eight = [with_levers(run(), leash=float(beta)) for beta in range(8)]
    looks = plots.looks_of(runs_of(eight)).values()
    assert len({(str(look["linestyle"]), look["marker"]) for look in looks}) == 8


def test_bars_of_levers_have_upright_names_and_too_many_are_left_out(tmp_path, monkeypatch):
    results = [with_levers(run(lr), leash=leash) for leash in (0.0, 1.0, 2.0) for lr in (1e-3, 1e-4, 1e-5)]
    ax = drawn(plots.plot_ratio, *results)
    assert len(bars(ax)) == len(ax.texts) == 18
    assert [tick.get_text() for tick in ax.get_xticklabels()][2:4] == ["1e-5", "1e-3 leash 1"]
    assert {tick.get_rotation() for tick in ax.get_xticklabels()} == {90}
    monkeypatch.setattr(Figure, "savefig", lambda figure, file: file.touch())
    assert FIGURE_FILE in files(tmp_path, *results)
    assert FIGURE_FILE not in files(tmp_path, *results, *(run(lr) for lr in (1e-6, 1e-7, 1e-8, 1e-9)))
    assert FIGURE_FILE in files(tmp_path, *(run(10.0**-n) for n in range(14)))


def test_with_levers_the_curves_are_those_of_one_seed(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(Figure, "savefig", lambda figure, file: file.touch())
    for name in ("plot_valleys", "plot_clock", "plot_ratio", "plot_price"):
        monkeypatch.setattr(
            plots, name, lambda ax, runs, styles, name=name: seen.update({name: [run.label for run in runs]})
        )
    seeds = [run(seed=seed) for seed in (0, 1)]
    files(tmp_path, *seeds, *(with_levers(result, **LEASH) for result in seeds))
    assert seen["plot_clock"] == seen["plot_price"] == ["1e-3, seed 0", "1e-3 leash 2, seed 0"]
    assert len(seen["plot_valleys"]) == len(seen["plot_ratio"]) == 4


def test_paths_of_learning_and_moving():
    ax = drawn(plots.plot_price, run())
    [path] = [line for line in ax.get_lines() if line.get_label() == "1e-3"]
    np.testing.assert_allclose(path.get_xydata(), [(loss / 10, loss) for loss in TURNS])
    assert legend(ax) == ["base model", "1e-3"]


def test_ticks_stand_where_something_was_measured():
    result, ticks = run(losses=[5.0, 4.5, 4.2, 4.3, 4.6, 4.5, 4.4], training=[5.0] * 66), {}
    for panel in (plots.plot_loss, plots.plot_held_out):
        ticks[panel] = drawn(panel, result).get_xticks().tolist()
    assert ticks.pop(plots.plot_loss) == [1, 20, 40, 60]
    assert all(found == [0, 10, 20, 30, 40, 50, 60] for found in ticks.values())
    ax = Figure().subplots()
    plots.ticks_on(ax, range(0, 90, 33))
    assert ax.get_xticks().tolist() == [0, 33, 66]


def test_the_legend_says_how_lines_are_smoothed():
    ax = drawn(plots.plot_loss, diverged(1e-2, [5.0, 9.0, 7.0, 8.0]), run())  # smoothed as the longer one is
    assert "mean of 3 steps" in legend(ax)
    lines = [line.get_ydata() for line in ax.get_lines() if len(line.get_xdata()) == 4]
    assert any(np.allclose(line, [5.0, 7.0, 8.0, 7.5]) for line in lines)


# The files


def test_a_figure_without_numbers_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda figure, file: file.touch())
    assert files(tmp_path, run()) == OF_ONE
    assert files(tmp_path, run(), nothing_held_out(result_of())) == OF_ONE
    assert files(tmp_path, run(), run(1e-4)) == [name for name in TITLES if name != LEVERS_FILE]
    of_levers = run(), run(1e-4), with_levers(run(), leash=2.0)
    assert files(tmp_path, *of_levers) == [FIGURE_FILE, LEVERS_FILE]
    assert files(tmp_path, *map(nothing_held_out, of_levers)) == [FIGURE_FILE]
    assert files(tmp_path, nothing_held_out(result_of())) == [FIGURE_FILE]
    assert files(tmp_path, diverged(losses=()), run()) == OF_ONE
    assert files(tmp_path, diverged()) == files(tmp_path, diverged(losses=())) == [FIGURE_FILE]


def test_a_figure_is_the_same_wherever_it_is_drawn():
    """In a notebook or in a file: how many ticks there are depends on the size of their letters."""
    seen = set()
    for size in (10, 12, 30):
        with rc_context({"font.size": size}):
            plots.figures(runs_of([run()]))[FIGURE_FILE].savefig(file := io.BytesIO())
        seen.add(file.getvalue())
    assert len(seen) == 1


def test_a_texts_name_is_no_formula(tmp_path):
    result = run()
    result["settings"]["text_name"] = "cost_$5_and_$6"
    figure, _ = plots.new_figure(runs_of([result]), "Title", 1)
    figure.savefig(tmp_path / "figure.png")
    assert "cost_$5_and_$6" in figure.get_supxlabel()


def test_nothing_that_draws_is_loaded_before_it_draws():
    work = "train.run.jobs, evaluate.baseline, evaluate.report.page, model.__main__"
    code = f"import {work}, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_plot_command_needs_files_alone(tmp_path):
    """There is no model in these folders, nor anywhere else."""
    # A notebook's backend, which is not installed here, and a home that cannot be written to: figures are files.
    odd = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "HOME": "/proc/nowhere"}
    command = [sys.executable, "-m", "evaluate.plot", str(write_runs(tmp_path / "runs", nothing_held_out(result_of())))]
    done = subprocess.run([*command, "--out", tmp_path / "new" / "folder"], capture_output=True, text=True, env=odd)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "new" / "folder" / FIGURE_FILE
    assert done.stdout == f"{file}\n"
    picture = matplotlib.image.imread(file)
    assert picture.shape[:2] == (1560, 1120) and picture[..., :3].std() > 0.05


def test_plot_command_says_what_is_wrong(refused, tmp_path):
    assert "no result.json" in refused(plot_command.main, tmp_path)
    folder = write_runs(tmp_path / "runs", result_of())
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "file" in refused(plot_command.main, folder, "--out", tmp_path / "file")


def test_what_needs_no_model_does_not_wait_for_pytorch():
    code = "import evaluate.report.page, evaluate.report.plots, evaluate.rate.session, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
