"""The ratio by hand, its interval, the table and the figure."""

import json
import math
import os
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import VOCAB
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from data.settings import Sampling
from evaluate import plot as plot_command
from evaluate import table
from evaluate.loss import text_loss
from evaluate.ratio import bootstrap_interval, frequent_token_ratio, most_frequent_tokens, share_among
from evaluate.report import plots as plot
from evaluate.report.captions import what_was_done
from evaluate.report.chance import over_seeds, sampling_noise, training_noise
from evaluate.report.figures import ticks_on
from evaluate.report.titles import FIGURE_FILES, FINAL_FILE
from evaluate.report.verdicts import judge
from evaluate.results import find_results, lr_label, write_result
from evaluate.setup import open_setup
from model.pretrained import load_pretrained


def test_most_frequent_tokens_and_ties():
    tokens = torch.tensor([9, 7, 7, 3, 3, 3, 5, 5, 1])
    assert most_frequent_tokens(tokens, 1) == [3]
    assert most_frequent_tokens(tokens, 3) == [3, 5, 7]  # 5 and 7 tie: the smaller id first
    assert most_frequent_tokens(tokens, 4) == [3, 5, 7, 1]  # 1 and 9 tie for the last place
    assert most_frequent_tokens(tokens) == [3, 5, 7, 1, 9]  # fewer than 100 there are


def test_share_by_hand():
    assert share_among(torch.tensor([[1, 2, 3, 3], [9, 9, 9, 3]]), [3, 1]).tolist() == [0.75, 0.25]


def alternating(tokens):
    """Writes 5, 6, 5, 6, ... whatever it reads; after a 5 a 6, after anything else a 5."""
    following = torch.where(tokens == 5, 6, 5)
    return 100.0 * F.one_hot(following, 8).float()


def test_ratio_by_hand():
    """Five new tokens alternate and begin with 5, but with 6 where the start is a 5: 3 or 2 of 5 are a 5."""
    measured = frequent_token_ratio(alternating, [5], Sampling(sequences=64, new_tokens=5, seed=1), vocab_size=8)
    starts = measured.tokens[:, 0]
    assert set(starts.tolist()) == set(range(8))  # any token of the vocabulary can be the start
    expected = torch.where(starts == 5, 2 / 5, 3 / 5)
    assert measured.shares == pytest.approx(expected.tolist())
    assert measured.ratio == pytest.approx(expected.mean().item())
    low, high = measured.ratio_ci
    assert 0.4 < low < measured.ratio < high <= 0.6


def test_start_tokens_are_not_counted():
    measured = frequent_token_ratio(
        lambda t: 100.0 * F.one_hot(0 * t, 8).float(), [0], Sampling(sequences=32, new_tokens=3), vocab_size=8
    )
    assert measured.ratio == 1.0 and measured.tokens.shape == (32, 4) and measured.tokens[:, 0].max() > 0


def test_extremes_and_banned():
    uniform = lambda tokens: torch.zeros(*tokens.shape, 1000)  # noqa: E731
    measured = frequent_token_ratio(uniform, list(range(100)), Sampling(sequences=100, top_k=0), vocab_size=1000)
    assert measured.ratio == pytest.approx(0.1, abs=0.012)  # 4 standard deviations
    banned = frequent_token_ratio(
        uniform, list(range(100)), Sampling(sequences=10, top_k=0), vocab_size=1000, banned=range(100)
    )
    assert banned.ratio == 0.0


def test_same_questions_for_every_model_and_any_grouping(model_folder, monkeypatch):
    model = load_pretrained(model_folder).double()
    settings = {"sampling": Sampling(sequences=9, new_tokens=6, seed=4), "vocab_size": VOCAB, "banned": [VOCAB - 1]}
    whole = frequent_token_ratio(model, [1, 2], **settings)
    other = frequent_token_ratio(lambda t: torch.zeros(*t.shape, VOCAB), [1, 2], **settings)
    assert torch.equal(whole.tokens[:, 0], other.tokens[:, 0])
    monkeypatch.setattr("evaluate.ratio.GROUP", 4)
    grouped = frequent_token_ratio(model, [1, 2], **settings)
    assert torch.equal(whole.tokens, grouped.tokens)


def test_the_interval_is_over_sequences():
    """Sequences all of one kind: 200 sequences of 0 or 1 have a standard error of 0.5 / sqrt(200)."""
    shares = np.array([0.0, 1.0] * 100)
    low, high = bootstrap_interval(shares)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.0354, 0.5 + 1.96 * 0.0354), abs=0.006)
    assert bootstrap_interval(np.array([0.25, 0.25])) == (0.25, 0.25)
    assert bootstrap_interval(shares) == (low, high)  # the same every time


def test_the_interval_is_made_of_percentiles():
    """One of 20: a redrawn mean is a binomial's, of which 36 % are 0, 92 % at most 2 / 20 and 98 % at most 3 / 20."""
    assert bootstrap_interval(np.array([1.0] + 19 * [0.0])) == pytest.approx((0.0, 3 / 20), abs=1e-12)


# Loss over a whole text


def test_text_loss_sums_all_tokens_and_divides_once():
    """A model that gives token t the probability proportional to t + 1, whatever came before."""
    weights = torch.arange(1.0, 9.0)
    tokens = torch.tensor([0, 7, 7, 1, 2, 0, 0, 3, 5, 6, 1])
    expected = -(weights[tokens[1:]] / weights.sum()).log().mean().item()

    def model(inputs):
        lengths.append(inputs.shape)
        return weights.log().expand(*inputs.shape, 8)

    for seq_len, batch_size in ((4, 2), (5, 16), (3, 2), (10, 1), (50, 4)):
        lengths = []
        assert text_loss(model, tokens, seq_len, batch_size) == pytest.approx(expected, abs=1e-6)
        assert sum(B * T for B, T in lengths) == 10 and max(T for _, T in lengths) <= seq_len


def test_text_loss_at_its_ends():
    """Who knows nothing loses log V at every token, who knows all loses nothing."""
    tokens = torch.tensor([3, 1, 4, 1, 5, 2, 6, 5, 3])
    uniform = lambda inputs: torch.zeros(*inputs.shape, 8)  # noqa: E731
    assert text_loss(uniform, tokens, 4) == pytest.approx(math.log(8), abs=1e-6)
    following = iter(tokens.tolist()[1:])
    parrot = lambda inputs: 200.0 * F.one_hot(torch.tensor([[next(following) for _ in inputs[0]]]), 8)  # noqa: E731
    assert text_loss(parrot, tokens, 3, batch_size=1) == 0.0


# Table and figure from saved results


def fake_result(lr, losses, before=0.4, after=0.5, **changes):
    """A run with nothing held out."""

    def measured(ratio):
        return ratio and {
            "ratio": ratio,
            "ratio_ci": [ratio - 0.02, ratio + 0.02],
            "shares": [ratio - 0.1, ratio + 0.1] * 50,
            "expected_ratio": ratio,
            "untruncated_ratio": ratio,
            "untruncated_ratio_ci": [ratio - 0.02, ratio + 0.02],
            "untruncated_shares": [ratio - 0.1, ratio + 0.1] * 50,
            "divergence": 0.0123,
            "divergence_ci": [0.01, 0.02],
            "copied": 0.25,
            "copied_ci": [0.2, 0.3],
            "longest_copy": {"tokens": 41},
            "extraction": {"training": 0.1, "training_ci": [0.0, 0.2], "held_out": None, "held_out_ci": None},
            "held_out": None,
            "forgetting": {"base_texts": {"kl": 0.3, "kl_ci": [0.2, 0.4]}},
            "weight_change": {"wte": 0.1, "h.0": 0.2, "ln_f": 0.1},
            "distinct": [0.2, 0.7, 0.9],
            "repeated": 0.01,
        }

    return {
        "lr": lr,
        "samples": len(losses),
        "seed": 0,
        "train_loss": losses,
        "held_out_loss": [],
        "checkpoints": [{"sample": 0, "kl": 0.0, "copied": 0.0}],
        "before": measured(before),
        "after": measured(after),
        "book": {},
        "shown": {"temperature": 0.8, "top_k": 40},
        "least_copy": 13,
        "book_ratio": 0.558,
        "book_tokens": 143_690,
        "held_out_tokens": 0,
        "prompts": [],
        "diverged": None,
        "identity": {},
        "settings": {
            "model": "gpt2",
            "model_name": "gpt2",
            "model_identity": {"parameters": 124_439_808},
            "text": "gulliver",
            "text_name": "gulliver",
            "text_sha256": "695e3237",
            "raw_text": False,
            "batch_size": 16,
            "seq_len": 256,
            "temperature": 1.0,
            "top_k": 0,
        },
        "environment": {"seconds": {"before": 30.0, "training": 60.0, "after": 30.0}},
    } | changes


@pytest.fixture
def sweep_folder(tmp_path):
    for lr, speed, after in ((1e-6, 0.1, 0.401), (1e-4, 3.0, 0.55), (1e-5, 1.0, 0.52)):
        folder = tmp_path / "sweep" / f"lr-{lr_label(lr)}"
        folder.mkdir(parents=True)
        losses = [4 - speed * (1 - 0.5 ** (i / 10)) for i in range(40)]
        write_result(folder, fake_result(lr, losses, after=after))
    return tmp_path / "sweep"


def test_results_are_found_and_sorted(sweep_folder):
    assert [r["lr"] for r in find_results([sweep_folder])] == [1e-4, 1e-5, 1e-6]
    assert [r["lr"] for r in find_results([sweep_folder / "lr-1e-6", sweep_folder / "lr-1e-5"])] == [1e-5, 1e-6]


def test_the_table_and_its_answer(sweep_folder):
    text = table.table(find_results([sweep_folder]))
    assert "gpt2 (124 million parameters) on gulliver; 40 samples of 16 x 256 tokens, seed 0" in text
    assert "| 1e-4 | 4.000 | 1.224 | 0.400 (0.380 to 0.420) | 0.550 (0.530 to 0.570) | 2.0 |" in text
    assert "1e-4 (1.224) < 1e-5 (3.075) < 1e-6 (3.907)" in text
    assert "Ratio at 1e-4: +0.150 (+0.150 to +0.150). Expected: 0.400 to 0.550, nearer to the book's 0.558." in text
    assert "The book's own tokens: 0.558. Losses in nats per token.\n" in text


def test_a_ratio_with_top_k_is_not_held_against_the_book():
    """Drawn among few tokens it passes the book's 0.558; by the model's own probabilities it is short of it."""
    result = fake_result(1e-4, [4.0] * 10, before=0.5, after=0.65)
    result["settings"]["top_k"] = 50
    for when, own in (("before", 0.4), ("after", 0.55)):
        result[when] |= {"untruncated_ratio": own, "untruncated_shares": [own - 0.1, own + 0.1] * 50}
    text = table.table([result])
    assert "| ratio after (95 %) | after, without top-k | minutes |" in text
    assert "| 0.650 (0.630 to 0.670) | 0.550 | 2.0 |" in text
    assert "Only the ratio without top-k, at temperature 1, can be held against the book's." in text
    sentence = "Expected without top-k at temperature 1: 0.400 to 0.550, nearer to the book's 0.558."
    assert f"- Ratio at 1e-4: +0.150 (+0.150 to +0.150). {sentence}" in text
    result["settings"] |= {"top_k": 0, "temperature": 0.7}
    assert "after, without top-k" in table.table([result])


def test_noise_is_called_noise():
    rng = np.random.default_rng(0)
    noisy = fake_result(1e-5, [3.0] * 10)
    noisy["after"]["shares"] = (np.array(noisy["before"]["shares"]) + rng.normal(0, 0.1, 100)).tolist()
    noisy["after"]["untruncated_shares"] = noisy["after"]["shares"]
    assert any("no change beyond the noise" in line for line in table.answer([noisy]))
    assert any("), within the luck of the writing. Expected" in line for line in table.answer([noisy]))
    away = fake_result(1e-3, [3.0] * 10, before=0.5, after=0.7)
    assert any("farther from the book's 0.558" in line for line in table.answer([away]))
    compared = table.answer([away, noisy])
    assert any(line.startswith("- Ratio at 1e-3 against 1e-5") and "more than the luck" in line for line in compared)
    compared = table.answer([noisy, noisy | {"lr": 1e-6}])
    assert any("1e-5 against 1e-6" in line and "within the luck of the writing" in line for line in compared)


def test_noise_of_the_writing_is_told_from_noise_of_the_training():
    """Two seeds a rate: ratios 0.50 and 0.52 against 0.40 and 0.48: gap 0.07, standard error sqrt(1e-4 + 1.6e-3)."""
    ratios = {1e-3: (0.50, 0.52), 1e-4: (0.40, 0.48)}
    results = [fake_result(lr, [4.0], after=r, seed=s) for lr, both in ratios.items() for s, r in enumerate(both)]
    assert sampling_noise(results) == [
        "Ratio at 1e-3, seed 0 against 1e-4, seed 0: +0.100 (+0.100 to +0.100), more than the luck of the writing.",
        "Ratio at 1e-3, seed 1 against 1e-4, seed 1: +0.040 (+0.040 to +0.040), more than the luck of the writing.",
    ]
    assert training_noise(results) == [
        "Ratio at 1e-3 against 1e-4, over the seeds: +0.070 (+- 0.082), within the luck of the batches' order."
    ]
    assert training_noise(results[::2]) == []  # of one seed there is nothing to say
    results[0]["after"]["shares"] = [0.5] * 7  # of a sweep that wrote less: no pairs
    assert len(sampling_noise(results)) == 1
    results[1]["after"] = None
    assert sampling_noise(results) == [] and training_noise(results) == []


def test_over_the_seeds_the_verdicts_are_counted():
    """Ratios 0.50 and 0.52: mean 0.51, standard deviation 0.02 / sqrt(2); an interval of 0.04 is 3.92 of the writing's."""
    runs = [
        held_out(fake_result(1e-3, FALLING, after=r, seed=s), [5.0, 4.5, 4.2 + s, 4.6])
        for s, r in enumerate((0.5, 0.52))
    ]
    runs[1]["after"]["copied_ci"] = [0.31, 0.4]
    lines = over_seeds([*runs, fake_result(1e-4, FALLING)])
    titles, _, row = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    cells = dict(zip(titles, row))
    assert cells["learning rate"] == "1e-3" and cells["seeds"] == "2"  # of 1e-4 there is one
    assert cells["ratio"] == "0.510 sd 0.014 (0.500 to 0.520)" and cells["sd of the ratio's writing"] == "0.010"
    assert cells["verdicts (seeds)"] == ("learns 2/2; over-fits 2/2; forgets 2/2; is only a trial 2/2; copies 1/2")
    assert "held-out loss, last" not in titles  # 1e-4 has nothing held out
    titles, _, row = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in over_seeds(runs) if line.startswith("|")
    ]
    cells = dict(zip(titles, row))
    assert cells["held-out loss, lowest"] == "4.350 sd 0.212 (4.200 to 4.500)"
    assert cells["held-out loss, last"] == "4.600 sd 0.000 (4.600 to 4.600)" and cells["copied (%)"].startswith(
        "25.000"
    )
    others = [run | {"lr": 1e-4} for run in runs]
    assert "fits best" not in "".join(over_seeds(runs + others))  # a verdict on the rates, and not on a run
    assert over_seeds(runs[:1]) == []
    runs[0]["after"] = None
    assert "| 0.520 |" in "\n".join(over_seeds(runs)) and "diverged 1/2" in "\n".join(over_seeds(runs))


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


def test_results_that_cannot_be_used(sweep_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no result.json"):
        find_results([tmp_path / "nowhere"])
    other = tmp_path / "other"
    other.mkdir()
    result = fake_result(1e-4, [4.0])
    result["settings"]["model"] = "gpt2-xl"
    write_result(other, result)
    with pytest.raises(ValueError, match=r"different models \(gpt2, gpt2-xl\)"):
        find_results([sweep_folder, other])
    for change, named in (
        ({"text_sha256": "0badcafe"}, r"texts \(gulliver, sha256 0badcafe, gulliver, sha256 695e3237\)"),
        ({"raw_text": True}, r"texts \(gulliver, sha256 695e3237, gulliver, sha256 695e3237, as served\)"),
    ):
        changed = fake_result(1e-4, [4.0])
        changed["settings"] |= change
        write_result(other, changed)
        with pytest.raises(ValueError, match=f"different {named}"):
            find_results([sweep_folder, other])
    moved = fake_result(1e-3, [4.0])
    moved["settings"]["text"] = "./elsewhere/gulliver.txt"  # the same content by another path
    write_result(other, moved)
    assert len(find_results([sweep_folder, other])) == 4
    write_result(other, {"lr": 1})
    with pytest.raises(ValueError, match="not the result of a run: after, before"):
        find_results([other])


def test_a_result_that_is_not_as_it_was_written_is_damaged(tmp_path):
    """Changed by hand, in any place; it would break its readers far from here, or show figures that nobody measured."""
    file = tmp_path / "result.json"
    write_result(tmp_path, fake_result(1e-4, [4.0]))
    whole = file.read_text(encoding="utf-8")
    file.write_text(
        json.dumps(json.loads(whole), sort_keys=True), encoding="utf-8"
    )  # the same content, laid out differently
    assert find_results([tmp_path]) == [json.loads(json.dumps(fake_result(1e-4, [4.0])))]
    changed = [
        whole.replace(old, new)
        for old, new in (
            ('"lr": 0.0001', '"lr": 0.0002'),
            ('"lr": 0.0001', '"lr": NaN'),
            ('"sha256"', '"sha512"'),
            ('"gulliver"', "[3]"),
            ('"gulliver"', '"gulliver", "more": 1'),
        )
    ]
    for damaged in ("", "{", "[]", "3", "null", "[" * 100_000, whole[:-9], *changed):
        assert damaged != whole
        file.write_text(damaged, encoding="utf-8")
        with pytest.raises(ValueError, match="damaged") as error:
            find_results([tmp_path])
        assert "\n" not in str(error.value)


def test_a_learning_rate_is_written_as_people_write_it():
    assert [lr_label(lr) for lr in (1e-4, 2.5e-5, 3e-3, 1.0)] == ["1e-4", "2.5e-5", "3e-3", "1e0"]


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


def test_every_setting_reaches_the_writing():
    """A model for which token 0 is the most likely, then 1, then 2, whatever it reads."""

    def written(**settings):
        slope = lambda tokens: (-0.5 * torch.arange(8.0)).expand(*tokens.shape, 8)  # noqa: E731
        return frequent_token_ratio(slope, [0], Sampling(20, 20, **settings), vocab_size=8).tokens

    plain, other = written(), written(seed=1)
    assert not torch.equal(plain[:, 0], other[:, 0]) and not torch.equal(plain[:, 1:], other[:, 1:])
    assert written(temperature=0)[:, 1:].unique().tolist() == [0]
    assert written(top_k=2)[:, 1:].unique().tolist() == [0, 1]


def test_a_result_that_is_no_json_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result(tmp_path, fake_result(1e-4, [4.0, math.nan]))
    assert not (tmp_path / "result.json").exists()


def test_the_answer_ranks_and_compares():
    """The larger rate ended with the larger loss and the larger ratio."""
    answer = "\n".join(
        table.answer([fake_result(1e-2, [5.0] * 10, after=0.6), fake_result(1e-3, [3.0] * 10, after=0.5)])
    )
    assert "1e-3 (3.000) < 1e-2 (5.000)" in answer
    assert "Ratio at 1e-2 against 1e-3: +0.100 (+0.100 to +0.100), more than the luck" in answer


def test_error_bars_reach_from_low_to_high():
    result = fake_result(1e-4, [4.0])
    result["before"]["ratio_ci"], result["after"]["ratio_ci"] = [0.3, 0.41], [0.45, 0.6]
    ax = Figure().subplots()
    plot.plot_ratio(ax, [result], plot.style_of([1e-4]))
    spans = [bars.get_segments()[0][:, 1].tolist() for bars in ax.collections]
    assert spans == [pytest.approx([0.3, 0.41]), pytest.approx([0.45, 0.6])]


def test_the_frequent_tokens_are_a_hundred(model_folder, tmp_path):
    """In a text of more than 100 kinds of token, so that some are not among them."""
    rng = np.random.default_rng(0)
    text = "".join(chr(i) * n for i, n in zip(rng.permutation(np.arange(33, 127)), range(1, 95)))
    text += "".join(map(chr, range(0x100, 0x180)))
    (tmp_path / "many.txt").write_text(text, encoding="utf-8")
    setup = open_setup(str(model_folder), str(tmp_path / "many.txt"), raw_text=False)
    counts = np.bincount(setup.tokens.numpy(), minlength=VOCAB)
    assert (counts > 0).sum() > 101 and len(setup.frequent) == 100
    assert (
        setup.book_ratio == pytest.approx(np.sort(counts)[-100:].sum() / counts.sum(), abs=1e-12)
        and setup.book_ratio < 1
    )


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


def held_out(result, losses):
    """`result` with these losses on held-out text, one every ten samples; KL is a tenth of them."""
    points = [[10 * i, loss] for i, loss in enumerate(losses)]
    checkpoints = [{"sample": sample, "held_out_loss": loss, "kl": loss / 10, "copied": 0.0} for sample, loss in points]
    changes = {"held_out_loss": points, "checkpoints": checkpoints, "held_out_tokens": 1000}
    for when, loss in (("before", losses[0]), ("after", losses[-1])):
        perplexity = math.exp(loss) if loss < 709 else None
        changes[when] = result[when] and result[when] | {"held_out": {"loss": loss, "perplexity": perplexity}}
    return result | changes


FALLING = [5 - 0.1 * i for i in range(40)]


@pytest.mark.parametrize(
    ("training", "losses", "since"),
    [
        (FALLING, [5.0, 4.5, 4.2, 4.3, 4.6], 20),  # turns up while the training loss falls
        (FALLING, [5.0, 4.5, 4.2, 4.2, 4.24], None),  # up by less than 1 %
        (FALLING, [5.0, 4.5, 4.2, 4.1, 4.0], None),  # still falling
        (FALLING, [5.0, 5.1, 5.2, 5.3, 5.4], 0),  # worse from the first sample on
        ([5.0] + [6.0] * 39, [5.0, 6.1, 6.2, 6.3, 6.4], None),  # harm, but no over-fitting: training got worse too
        ([5.0] * 40, [5.0, 5.1, 5.2, 5.3, 5.4], None),  # nor did it learn anything by heart
        (FALLING, [], None),
    ],
)
def test_over_fitting_by_its_rule(training, losses, since):
    result = held_out(fake_result(1e-3, training), losses) if losses else fake_result(1e-3, training)
    verdicts = {verdict.name: verdict for verdict in judge([result])[0]}
    assert ("over-fits" in verdicts) == (since is not None)
    sentences = " ".join(table.answer([result]))
    assert ("over-fits from sample" in sentences) == (since is not None)
    if since is not None:
        assert verdicts["over-fits"].when == f"from sample {since} on"
        assert f"- {verdicts['over-fits'].sentence}" in table.answer([result])
    assert ("ends worse than it began" in sentences) == (losses[-1:] > losses[:1])


def test_the_answer_names_the_seed_that_over_fits():
    gone = held_out(fake_result(1e-3, FALLING[:5], after=None), [5.0])
    result = held_out(fake_result(1e-3, FALLING, seed=1), [5.0, 4.5, 4.2, 4.3, 4.6])
    rise = "held-out loss 4.200 there, 4.600 at the end, while the training loss goes on falling."
    assert f"- 1e-3, seed 1 over-fits from sample 20 on: {rise}" in table.answer([gone, result])


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


def test_a_loss_over_a_part_says_so():
    result = held_out(fake_result(1e-3, FALLING), [5.0, 4.5, 4.2, 4.3, 4.6]) | {"held_out_tokens": 50_000}
    assert "the first" not in table.table([result]) + what_was_done([result])
    result["held_out_on_the_way"] = 16_384
    for said in (table.table([result]), what_was_done([result])):
        assert "the held-out loss is that of the first 16,384 of 50,000 tokens" in said


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


def test_plot_command_says_what_is_wrong(command, tmp_path):
    code, _, err = command(plot_command.main, tmp_path)
    assert code == 2 and err.count("\n") == 1 and "no result.json" in err
    write_result(tmp_path, fake_result(1e-4, [3.0]))
    code, _, err = command(plot_command.main, tmp_path, "--out", tmp_path / "no" / "folder")
    assert code == 2 and err.startswith("error:")
