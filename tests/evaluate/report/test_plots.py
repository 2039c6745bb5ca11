def test_every_learning_rate_has_its_colour_in_every_figure():
    alone = plot.style_of([1e-5])[1e-5]
    assert plot.style_of([1e-4, 1e-5, 1e-6])[1e-5] == alone == plot.style_of([1e-2, 1e-5, 3e-4])[1e-5]
    styles = plot.style_of([1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6])
    assert (
        len({style["color"] for style in styles.values()}) == len({style["marker"] for style in styles.values()}) == 6
    )
    assert plot.style_of([1e-3, 1e-4, 1e-3, 1e-4]) == plot.style_of([1e-3, 1e-4])  # two seeds of each
    crowded = plot.style_of([1e-4, 1.1e-4, 1.2e-4])
    assert len({style["color"] for style in crowded.values()}) == 3


def test_a_run_that_exploded_leaves_the_others_their_scale():
    """The base model's loss is 5: what is above 10 is off the scale."""
    calm = held_out(fake_result(1e-4, FALLING), [5.0, 4.5, 4.2, 4.1, 4.0])
    wild = held_out(fake_result(1e2, [5.0] + [9e5] * 39), [5.0, 9e5, 8e5, 7e5, 6e5])
    just = held_out(fake_result(1e-2, [5.0] + [9.9] * 39), [5.0, 9.0, 9.5, 9.8, 9.9])
    gone = held_out(fake_result(1e1, [5.0, 9.0], after=None, samples=40), [5.0])
    results = [wild, gone, just, calm]
    styles = plot.style_of([r["lr"] for r in results])
    for panel in (plot.plot_loss, plot.plot_held_out, plot.plot_final_held_out, plot.plot_forgetting):
        ax = Figure().subplots()
        panel(ax, results, styles)
        assert ax.get_ylim()[1] < 13 and ax.get_ylim()[0] < 4.1, panel
        ax.figure.draw_without_rendering()
        shown = [text.get_text() for text in (*ax.get_legend().get_texts(), *ax.texts)]
        assert any(text.startswith("1e2") and "off the scale" in text for text in shown), panel
        assert not any(text.startswith("1e-2") and "off" in text for text in shown), panel
        # Above the panel it can hide nothing.
        assert ax.get_legend().get_window_extent().y0 >= ax.bbox.y1
    ax = Figure().subplots()
    plot.plot_final_held_out(ax, results, styles)
    crosses = {line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "x"}
    assert crosses == {1e1, 1e2} and {"1e1\ndiverged", "1e2\noff the scale"} == {text.get_text() for text in ax.texts}
    alone = Figure().subplots()
    plot.plot_held_out(alone, [calm], styles)
    assert alone.get_ylim()[1] < 5.2  # where nothing exploded nothing is cut


def test_the_running_mean_is_centred():
    """And it begins at the true first value."""
    assert plot.smooth([0.0, 3.0, 6.0, 0.0], 3).tolist() == [0.0, 3.0, 3.0, 3.0]
    assert plot.smooth([9.0, 0.0, 0.0, 6.0, 0.0, 0.0], 5).tolist() == [9.0, 3.0, 3.0, 1.2, 1.5, 2.0]
    assert plot.smooth([1.0, 2.0], 1).tolist() == [1.0, 2.0]


def test_the_figure_shows_the_numbers(sweep_folder):
    """What is drawn is read back from the axes."""
    results = find_results([sweep_folder])
    styles = plot.style_of([r["lr"] for r in results])
    left, right = Figure().subplots(1, 2)
    plot.plot_loss(left, results, styles)
    lines = {line.get_label(): line for line in left.get_lines() if not line.get_label().startswith("_")}
    assert list(lines) == ["1e-4", "1e-5", "1e-6"]
    for result in results:
        line = lines[lr_label(result["lr"])]
        np.testing.assert_allclose(line.get_ydata(), plot.smooth(result["train_loss"], 3))
        assert line.get_xdata().tolist() == list(range(1, 41)) and line.get_color() == styles[result["lr"]]["color"]
        assert any(np.array_equal(raw.get_ydata(), result["train_loss"]) for raw in left.get_lines())
    plot.plot_ratio(right, results, styles)
    heights = [bar.get_height() for bar in right.patches]
    assert heights == [0.4, 0.55, 0.4, 0.52, 0.4, 0.401]
    assert [bar.get_facecolor()[:3] for bar in right.patches[1::2]] == [
        to_rgb(styles[r["lr"]]["color"]) for r in results
    ]
    assert any(np.allclose(line.get_ydata(), 0.558) for line in right.get_lines())
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["1e-4", "1e-5", "1e-6"]


def test_error_bars_reach_from_low_to_high():
    result = fake_result(1e-4, [4.0])
    result["before"]["ratio_ci"], result["after"]["ratio_ci"] = [0.3, 0.41], [0.45, 0.6]
    ax = Figure().subplots()
    plot.plot_ratio(ax, [result], plot.style_of([1e-4]))
    spans = [bars.get_segments()[0][:, 1].tolist() for bars in ax.collections]
    assert spans == [pytest.approx([0.3, 0.41]), pytest.approx([0.45, 0.6])]


def test_diverged_runs_are_named_everywhere(sweep_folder):
    folder = sweep_folder / "lr-1e0"
    folder.mkdir()
    write_result(folder, fake_result(1.0, [4.0, 9.0], after=None, samples=40))
    results = find_results([sweep_folder])
    text = table.table(results)
    assert "| 1e0 | 4.000 | not finite after sample 2 | 0.400 (0.380 to 0.420) | diverged |" in text
    assert "At 1e0 the training diverged" in text
    names = ("learning_rates.png", "weight_change.png")  # nothing is held out, and copying measured once
    assert plot.plot_all(results, sweep_folder) == [sweep_folder / name for name in names]
    at_once = fake_result(1.0, [], after=None, samples=40)
    assert plot.plot_all([at_once], sweep_folder) == [sweep_folder / "learning_rates.png"]


def test_held_out_losses_in_table_and_figure(tmp_path):
    result = held_out(fake_result(1e-3, FALLING), [5.0, 4.5, 4.2, 4.3, 4.6])
    assert "| 5.000 | 1.250 | 5.000 | 4.200 (20) | 4.600 | 0.400" in table.table([result])
    one = [name for name in FIGURE_FILES if name != FINAL_FILE]  # of one run that would be a single dot
    assert plot.plot_all([result], tmp_path) == [tmp_path / name for name in one]
    ax = Figure().subplots()
    plot.plot_held_out(ax, [result], plot.style_of([1e-3]))
    training, measured = ax.get_lines()
    assert measured.get_xydata().tolist() == result["held_out_loss"]
    np.testing.assert_allclose(training.get_ydata(), plot.smooth(FALLING, 3))
    assert training.get_color() == measured.get_color()


def test_the_turn_of_one_is_seen_beside_another_that_is_spoilt():
    """From 5.0 the best falls by 0.8: the closer panel ends 0.8 above, and its ring is at the lowest."""
    turns = held_out(fake_result(1e-4, FALLING), [5.0, 4.5, 4.2, 4.3, 4.6])
    spoilt = held_out(fake_result(1e-2, FALLING), [5.0, 6.0, 7.0, 7.5, 8.0])
    ax = Figure().subplots()
    plot.plot_turn(ax, [spoilt, turns], plot.style_of([1e-2, 1e-4]))
    low, high = ax.get_ylim()
    assert high == pytest.approx(5.8) and 4.0 < low < 4.2
    rings = [line.get_xydata().tolist() for line in ax.get_lines() if line.get_markersize() == 13]
    assert rings == [[[20, 4.2]]]  # the other is lowest before it begins
    flat = held_out(fake_result(1e-4, FALLING), [5.0, 5.0, 5.01, 5.02, 5.02])
    ax = Figure().subplots()
    plot.plot_turn(ax, [flat], plot.style_of([1e-4]))
    assert ax.get_ylim()[1] == pytest.approx(5.1)  # where nothing falls it does not magnify the noise


def test_a_texts_name_is_no_formula(tmp_path):
    result = fake_result(1e-4, [4.0, 3.0])
    result["settings"]["text_name"] = "cost_$5_and_$6"
    figure, _ = plot.new_figure([result], "Title", 1)
    figure.savefig(tmp_path / "figure.png")
    assert "cost_$5_and_$6" in figure.get_supxlabel() and plot.plot_all([result], tmp_path)


def test_ticks_stand_where_something_was_measured():
    result = held_out(fake_result(1e-3, [5.0] * 66), [5.0, 4.5, 4.2, 4.3, 4.6, 4.5, 4.4])
    styles, ticks = plot.style_of([1e-3]), {}
    for panel in (plot.plot_loss, plot.plot_held_out, plot.plot_turn, plot.plot_copying):
        ax = Figure().subplots()
        panel(ax, [result], styles)
        ticks[panel] = ax.get_xticks().tolist()
    assert ticks.pop(plot.plot_loss) == [1, 20, 40, 60]
    assert all(found == [0, 10, 20, 30, 40, 50, 60] for found in ticks.values())
    ax = Figure().subplots()
    ticks_on(ax, range(0, 90, 33))
    assert ax.get_xticks().tolist() == [0, 33, 66]


def test_the_share_of_copies_begins_at_zero_and_its_length_is_that_of_the_runs():
    results = [held_out(fake_result(lr, FALLING, least_copy=n), [5.0] * 5) for lr, n in ((1e-3, 13), (1e-4, 17))]
    ax = Figure().subplots()
    plot.plot_copying(ax, results, plot.style_of([1e-3, 1e-4]))
    assert ax.get_ylim()[0] == 0 and "runs of 17 or more" in ax.get_legend().get_title().get_text()


def test_the_legend_says_how_lines_are_smoothed():
    for panel, words in ((plot.plot_loss, "mean of 3 samples"), (plot.plot_held_out, "training, mean of 3")):
        ax = Figure().subplots()
        # The one that ended early is smoothed as the others are.
        short = held_out(fake_result(1e-2, [5.0, 9.0, 7.0, 8.0], after=None), [5.0])
        panel(ax, [short, held_out(fake_result(1e-3, FALLING), [5.0] * 5)], plot.style_of([1e-2, 1e-3]))
        assert words in [text.get_text() for text in ax.get_legend().get_texts()]
        assert any(
            np.allclose(line.get_ydata(), [5.0, 7.0, 8.0, 7.5]) for line in ax.get_lines() if len(line.get_xdata()) == 4
        )


def test_a_ratio_with_top_k_bears_a_mark_that_can_be_held_against_the_book():
    result = fake_result(1e-4, [4.0] * 10, before=0.5, after=0.65)
    result["settings"]["top_k"] = 50
    result["before"]["untruncated_ratio"], result["after"]["untruncated_ratio"] = 0.4, 0.55
    ax = Figure().subplots()
    plot.plot_ratio(ax, [result], plot.style_of([1e-4]))
    marks = [line.get_xydata()[0].tolist() for line in ax.get_lines() if line.get_marker() == "d"]
    assert marks == [[-0.2, 0.4], [0.2, 0.55]]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "without top-k" in legend and "the book: 0.558" in legend
    result["settings"]["top_k"] = 0
    ax = Figure().subplots()
    plot.plot_ratio(ax, [result], plot.style_of([1e-4]))
    assert not [line for line in ax.get_lines() if line.get_marker() == "d"]
    assert "without top-k" not in [text.get_text() for text in ax.get_legend().get_texts()]


def test_runs_with_and_without_held_out_text_in_one_table(tmp_path):
    mixed = [held_out(fake_result(1e-3, FALLING), [5.0, 4.5, 4.2, 4.3, 4.6]), fake_result(1e-4, FALLING)]
    assert "| 1e-4 | 5.000 | 1.250 |  |  |  | 0.400" in table.table(mixed)
    one = [name for name in FIGURE_FILES if name != FINAL_FILE]
    assert plot.plot_all(mixed, tmp_path) == [tmp_path / name for name in one]
    both = [mixed[0], held_out(fake_result(1e-4, FALLING), [5.0, 4.9, 4.8, 4.7, 4.6])]
    assert plot.plot_all(both, tmp_path) == [tmp_path / name for name in FIGURE_FILES]


def test_nothing_that_draws_is_loaded_before_it_draws():
    work = "train.run.jobs, evaluate.measures.reference, evaluate.report.page, model.__main__"
    code = f"import {work}, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_plot_command_needs_files_alone(sweep_folder):
    """There is no model in these folders, nor anywhere else."""
    # A notebook's backend, which is not installed here, and a home that cannot be written to: figures are files.
    odd = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "HOME": "/proc/nowhere"}
    command = [sys.executable, "-m", "evaluate.plot", str(sweep_folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=odd)
    assert done.returncode == 0, done.stderr
    picture = matplotlib.image.imread(sweep_folder / "learning_rates.png")
    assert picture.shape[:2] == (1560, 1120) and picture[..., :3].std() > 0.05


def test_plot_command_says_what_is_wrong(command, tmp_path):
    code, _, err = command(plot_command.main, tmp_path)
    assert code == 2 and err.count("\n") == 1 and "no result.json" in err
    write_result(tmp_path, fake_result(1e-4, [3.0]))
    code, _, err = command(plot_command.main, tmp_path, "--out", tmp_path / "no" / "folder")
    assert code == 2 and err.startswith("error:")
