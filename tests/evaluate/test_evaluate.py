"""The ratio by hand, its interval, the loss over a text, results on the disk, and the command."""

import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import VOCAB, WIDTH, official_file, write_model

import evaluate.__main__ as evaluate_command
from data.book import load_book
from data.settings import Sampling
from data.tokenizer import load_tokenizer
from evaluate.intervals import t_interval
from evaluate.loss import text_loss, window_losses
from evaluate.ratio import frequent_probability, frequent_token_ratio, most_frequent_tokens, share_among
from evaluate.results import describe, find_runs, lr_label, read_result, runs_of, write_result
from evaluate.verdicts import perplexity
from model.pretrained import load_pretrained
from tests.evaluate.handmade import losses_of, result_of, with_levers, with_losses, write_runs


def test_most_frequent_tokens_without_ties():
    assert most_frequent_tokens(torch.tensor([3, 7, 7, 9, 9, 9]), 3) == [9, 7, 3]


def test_only_so_many_as_asked_for():
    tokens = torch.tensor([7, 7, 3, 3, 3, 9])
    assert [len(most_frequent_tokens(tokens, count)) for count in (1, 2, 3, 100)] == [1, 2, 3, 3]


def test_most_frequent_tokens_and_ties():
    tokens = torch.tensor([9, 7, 7, 3, 3, 3, 5, 5, 1])
    assert most_frequent_tokens(tokens, 1) == [3]
    assert most_frequent_tokens(tokens, 3) == [3, 5, 7]  # 5 and 7 tie: the smaller id first
    assert most_frequent_tokens(tokens, 4) == [3, 5, 7, 1]  # 1 and 9 tie for the last place
    assert most_frequent_tokens(tokens) == [3, 5, 7, 1, 9]  # fewer than 100 there are


def test_every_row_has_a_share():
    shares = share_among(torch.zeros(2, 5, dtype=torch.long), [3, 1])
    assert shares.shape == (2,) and shares.dtype == torch.float64


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


def test_every_setting_reaches_the_writing():
    """A model for which token 0 is the most likely, then 1, then 2, whatever it reads."""

    def written(**settings):
        slope = lambda tokens: (-0.5 * torch.arange(8.0)).expand(*tokens.shape, 8)  # noqa: E731
        return frequent_token_ratio(slope, [0], Sampling(20, 20, **settings), vocab_size=8).tokens

    plain, other = written(), written(seed=1)
    assert not torch.equal(plain[:, 0], other[:, 0]) and not torch.equal(plain[:, 1:], other[:, 1:])
    assert written(temperature=0)[:, 1:].unique().tolist() == [0]
    assert written(top_k=2)[:, 1:].unique().tolist() == [0, 1]


def test_same_questions_for_every_model_and_any_grouping(model_folder, monkeypatch):
    model = load_pretrained(model_folder).double()
    settings = {"sampling": Sampling(sequences=9, new_tokens=6, seed=4), "vocab_size": VOCAB, "banned": [VOCAB - 1]}
    whole = frequent_token_ratio(model, [1, 2], **settings)
    other = frequent_token_ratio(lambda t: torch.zeros(*t.shape, VOCAB), [1, 2], **settings)
    assert torch.equal(whole.tokens[:, 0], other.tokens[:, 0])
    monkeypatch.setattr("evaluate.ratio.GROUP", 4)
    grouped = frequent_token_ratio(model, [1, 2], **settings)
    assert torch.equal(whole.tokens, grouped.tokens)


def test_the_interval_of_a_mean_is_students():
    """The quantiles of the tables; three seeds are a case in use. One value has no interval."""
    for n, quantile in ((2, 12.7062), (3, 4.302653), (5, 2.776445), (32, 2.039513), (256, 1.969311)):
        values = np.random.default_rng(n).normal(3, 2, n)
        half = quantile * values.std(ddof=1) / math.sqrt(n)
        assert t_interval(values) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-5)
    assert t_interval([0.25, 0.25]) == (0.25, 0.25) and t_interval([0.25]) is None


def test_the_probability_of_the_frequent_tokens():
    """Probabilities 8 : 4 : 2 : 1 : 1, then all equal; frequent are the second and the last."""
    logits = torch.tensor([[8.0, 4.0, 2.0, 1.0, 1.0], [3.0] * 5]).log()
    assert frequent_probability(logits, torch.tensor([1, 4])).tolist() == pytest.approx([5 / 16, 2 / 5], abs=1e-7)
    # The two likeliest of the first row are 8 and 4; where all are equal all tie.
    assert frequent_probability(logits, torch.tensor([1, 4]), 2).tolist() == pytest.approx([4 / 12, 2 / 5], abs=1e-7)
    assert frequent_probability(logits, torch.tensor([1, 4]), 9).tolist() == pytest.approx([5 / 16, 2 / 5], abs=1e-7)
    half = torch.tensor([[-60.0, -60.0, -70.0]], dtype=torch.bfloat16)
    found = frequent_probability(half, torch.tensor([1]))
    assert found.dtype == torch.float64 and found.item() == pytest.approx(1 / (2 + math.exp(-10)), abs=1e-12)


@pytest.mark.parametrize("how", [{"top_k": 0}, {"top_k": 7, "temperature": 0.8}])
def test_the_probability_is_of_the_models_own_at_every_step(model_folder, how):
    """Against a full pass over the finished texts and a sum in NumPy; 70 texts are two groups."""
    model, frequent, banned = load_pretrained(model_folder), [3, 7, 11, 200], [VOCAB - 1]
    sampling = Sampling(sequences=70, new_tokens=9, seed=3, **how)
    found = frequent_token_ratio(model, frequent, sampling, vocab_size=VOCAB, banned=banned)
    with torch.no_grad():
        logits = model.double()(found.tokens[:, :-1]).numpy()
    logits[..., banned] = -np.inf
    p = np.exp(logits - logits.max(-1, keepdims=True))
    expected = (p[..., frequent].sum(-1) / p.sum(-1)).mean(1)  # top-k and temperature change nothing
    assert found.without_top_k.shape == (70,)
    np.testing.assert_allclose(found.without_top_k, expected, atol=1e-5)
    likeliest = np.sort(p, axis=-1)[..., -50][..., None]
    p = np.where(p >= likeliest, p, 0.0)
    np.testing.assert_allclose(found.with_top_k, (p[..., frequent].sum(-1) / p.sum(-1)).mean(1), atol=1e-5)
    if not how["top_k"]:  # the same mean, but for chance
        assert abs(found.without_top_k.mean() - found.ratio) < 0.05


# Loss over a whole text


WEIGHTS = torch.arange(1.0, 9.0)  # a model's probabilities, up to a factor, whatever it has read
SHORT = torch.tensor([0, 7, 7, 1, 2, 0, 0, 3, 5, 6, 1])  # ten predictions: windows of four have 4, 4 and 2


def windows_read(batch_size: int = 2) -> tuple[np.ndarray, list[list[int]]]:
    """The losses of the windows of SHORT, and what the model has read, window by window."""
    read = []

    def model(inputs):
        read.extend(inputs.tolist())
        return WEIGHTS.log().expand(*inputs.shape, 8)

    return window_losses(model, SHORT, 4, batch_size), read


def test_the_text_is_cut_into_windows_without_overlap():
    assert windows_read()[1][:2] == [[0, 7, 7, 1], [2, 0, 0, 3]]


def test_the_short_last_window_is_read_too():
    assert windows_read()[1][2:] == [[5, 6]]


def test_every_window_has_a_loss_of_its_own():
    losses, _ = windows_read()
    assert isinstance(losses, np.ndarray) and losses.shape == (3,)


def test_a_window_predicts_its_next_tokens():
    """The first two windows have as many tokens, so their losses are as the sums are."""
    losses, _ = windows_read()
    each = -(WEIGHTS / WEIGHTS.sum()).log()[SHORT[1:]]
    assert losses[0] / losses[1] == pytest.approx((each[:4].sum() / each[4:8].sum()).item(), rel=1e-6)


def test_a_short_window_weighs_less():
    """Its sum is divided by the same number as the others'."""
    losses, _ = windows_read()
    each = -(WEIGHTS / WEIGHTS.sum()).log()[SHORT[1:]]
    assert losses[2] / losses[0] == pytest.approx((each[8:].sum() / each[:4].sum()).item(), rel=1e-6)


class Watched(torch.nn.Module):
    """Notes the mode in which it is called, and whether gradients are recorded."""

    def __init__(self):
        super().__init__()
        self.modes, self.gradients = set(), set()
        window_losses(self.train(), SHORT, 4)

    def forward(self, inputs):
        self.modes.add(self.training)
        self.gradients.add(torch.is_grad_enabled())
        return torch.zeros(*inputs.shape, 8)


def test_a_loss_is_measured_without_dropout():
    assert Watched().modes == {False}


def test_a_loss_is_measured_without_gradients():
    assert Watched().gradients == {False}


def test_a_measured_model_is_left_as_it_was():
    assert Watched().training


def test_the_loss_of_a_text_is_the_mean_of_its_windows():
    model = lambda inputs: WEIGHTS.log().expand(*inputs.shape, 8)  # noqa: E731
    assert text_loss(model, SHORT, 4) == pytest.approx(window_losses(model, SHORT, 4).mean(), abs=1e-12)


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


def test_the_windows_losses_have_the_texts_as_their_mean():
    """Ten tokens are predicted in windows of four: 4, 4 and 2. Each sum is divided by 10 / 3."""
    logits = torch.arange(1.0, 9.0).log()
    tokens = torch.tensor([0, 7, 7, 1, 2, 0, 0, 3, 5, 6, 1])
    each = -logits.log_softmax(-1)[tokens[1:]]
    sums = [each[:4].sum(), each[4:8].sum(), each[8:].sum()]
    found = window_losses(lambda inputs: logits.expand(*inputs.shape, 8), tokens, 4, batch_size=2)
    np.testing.assert_allclose(found, np.array(sums) / (10 / 3), rtol=1e-6)
    assert found.mean() == pytest.approx(each.mean().item(), abs=1e-6)


def test_text_loss_at_its_ends():
    """Who knows nothing loses log V at every token, who knows all loses nothing."""
    tokens = torch.tensor([3, 1, 4, 1, 5, 2, 6, 5, 3])
    uniform = lambda inputs: torch.zeros(*inputs.shape, 8)  # noqa: E731
    assert text_loss(uniform, tokens, 4) == pytest.approx(math.log(8), abs=1e-6)
    following = iter(tokens.tolist()[1:])
    parrot = lambda inputs: 200.0 * F.one_hot(torch.tensor([[next(following) for _ in inputs[0]]]), 8)  # noqa: E731
    assert text_loss(parrot, tokens, 3, batch_size=1) == 0.0


# Results on the disk


@pytest.fixture
def sweep(tmp_path):
    return write_runs(tmp_path / "sweep", *(result_of(lr) for lr in (1e-6, 1e-4, 1e-5)))


def test_runs_are_found_and_sorted(sweep):
    assert [run.label for run in find_runs([sweep])] == ["1e-4", "1e-5", "1e-6"]
    some = [sweep / "lr-1e-6-0", sweep / "lr-1e-5-0", sweep / "lr-1e-6-0"]  # one of them twice
    assert [(run.label, run.folder.name) for run in find_runs(some)] == [("1e-5", "lr-1e-5-0"), ("1e-6", "lr-1e-6-0")]
    write_runs(sweep, result_of(1e-5, 1))
    labels = ["1e-4, seed 0", "1e-5, seed 0", "1e-5, seed 1", "1e-6, seed 0"]
    assert [run.label for run in find_runs([sweep])] == labels


def test_the_numbers_of_a_run(tmp_path):
    losses = [5 - 0.1 * i for i in range(40)]
    result = with_losses(result_of(train_loss=losses), [5.0, 4.2, 4.3, 4.2])
    only_losses = losses_of(4.5) | {"sample": 5}
    result["checkpoints"].insert(1, only_losses)
    [run] = find_runs([write_runs(tmp_path, result)])
    assert run.last_loss == pytest.approx((1.1 + 1.2 + 1.3 + 1.4) / 4) and run.minutes == 2.0
    assert run.lowest_held_out == (10, 4.2)
    assert run.path("held_out_loss", "sample") == [(5.0, 0), (4.5, 5), (4.2, 10), (4.3, 20), (4.2, 30)]
    assert [step for step, _ in run.path("sample", "kl")] == [0, 10, 20, 30]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            {"model_identity": {"name": "gpt2", "parameters": 124_439_808, "sha256": "0badcafe"}},
            r"different models \(gpt2, sha256 0badcafe, gpt2, sha256 abababab\)",
        ),
        ({"text_sha256": "0badcafe"}, r"different texts \(gulliver, sha256 0badcafe, gulliver, sha256 cdcdcdcd\)"),
        ({"raw_text": True}, r"different texts \(gulliver, sha256 cdcdcdcd, gulliver, sha256 cdcdcdcd, as served\)"),
        ({"batch_size": 8, "top_k": 50}, "in more than learning rate, levers and seed: top_k; compare others"),
        ({}, "is a second run at 1e-4 with seed 0; name runs that differ"),
    ],
)
def test_runs_that_share_no_table_are_refused_in_one_line(sweep, tmp_path, change, named):
    other = result_of(1e-4 if not change else 1e-3)
    other["settings"] |= change
    with pytest.raises(ValueError, match=named) as error:
        find_runs([sweep, write_runs(tmp_path / "other", other)])
    assert "\n" not in str(error.value)


def test_a_copy_and_a_link_beside_the_runs_of_a_sweep_are_none_of_it(tmp_path):
    for rate in (1e-3, 1e-4):
        write_runs(tmp_path / "made", result_of(rate, identity={"lr": rate, "seed": 0}))
        [made] = (tmp_path / "made").iterdir()
        made.rename(tmp_path / f"lr-{lr_label(rate)}")
    shutil.copytree(tmp_path / "lr-1e-3", tmp_path / "lr-1e-3 copy")
    (tmp_path / "lr-best").symlink_to(tmp_path / "lr-1e-4")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "result.json").write_text('{"accuracy": 0.5}')
    assert [run.folder.name for run in find_runs([tmp_path])] == ["lr-1e-3", "lr-1e-4"]


def test_runs_that_differ_in_place_or_machine_share_a_table(sweep, tmp_path):
    moved = result_of(1e-3)
    moved["settings"] |= {"text": "./elsewhere/gulliver.txt", "text_notes": ["a note"]}  # the same content
    moved["settings"] |= {"model": "./elsewhere/mm/", "model_name": "mm", "general_text": "./g.txt", "text_name": "g"}
    moved["settings"] |= {"device": "cuda", "dtype": "bfloat16", "micro_batch": 4}
    assert len(find_runs([sweep, write_runs(tmp_path / "other", moved)])) == 4
    patient = with_levers(result_of(1e-2), patience=3)
    assert len(find_runs([sweep, write_runs(tmp_path / "patient", patient)])) == 4
    with pytest.raises(ValueError, match="second run at 1e-2 with seed 0; name runs that differ in learning rate, a l"):
        find_runs([tmp_path / "patient", write_runs(tmp_path / "more", with_levers(patient, patience=4))])


def test_runs_that_differ_in_a_lever_are_named_by_it(tmp_path):
    """Only what is not the same for all is in a name; what is the same for all is said once."""

    def named(*levers: dict) -> list[str]:
        results = [
            with_levers(result_of(lr, seed), **lever) for lever in levers for lr in (3e-4, 1e-4) for seed in (0,)
        ]
        return [run.name for run in runs_of(results) if run.lr == 3e-4]

    assert named({}, {"schedule": "linear"}) == ["3e-4", "3e-4 linear"]
    linear = {"schedule": "linear", "leash": 2.0, "clip": 1.0, "warmup": 20}
    assert named({}, linear) == ["3e-4", "3e-4 linear warm-up 20 leash 2 clip 1"]
    assert named(linear, linear | {"train": "norms"}) == ["3e-4", "3e-4 norms only"]
    parts = [{"train": part} for part in ("all", "attention", "mlp", "norms", "last:2")]
    assert named(*parts) == [
        "3e-4",
        *(f"3e-4 {p}" for p in ("MLPs only", "norms only", "last 2 blocks", "attention only")),
    ]
    assert named({"batch_size": 16}, {"batch_size": 4}) == ["3e-4 batch 4", "3e-4 batch 16"]
    assert named({"samples": 200}, {}) == ["3e-4 100 steps", "3e-4 200 steps"]
    plain, seeds = result_of(), [with_levers(result_of(1e-3, seed), **linear) for seed in (0, 1)]
    for folder, results in (("plain", [plain]), ("linear", seeds)):
        write_runs(tmp_path / folder, *results)
    runs = find_runs([tmp_path / "linear", tmp_path / "plain"])
    words = "linear warm-up 20 leash 2 clip 1"
    assert [run.label for run in runs] == ["1e-4, seed 0", f"1e-3 {words}, seed 0", f"1e-3 {words}, seed 1"]
    assert describe(runs).endswith("; 100 steps of 16 x 256 tokens, seeds 0, 1")
    same = "linear schedule, warm-up 20, leash 2, clip 1"
    assert describe(runs_of(seeds)).endswith(f"; 100 steps of 16 x 256 tokens, {same}, seeds 0, 1")
    assert describe(runs_of([plain, with_levers(plain, samples=200)])).endswith("; steps of 16 x 256 tokens, seed 0")
    two = [with_levers(plain, schedule=schedule, leash=2.0) for schedule in ("cosine", "linear")]
    assert describe(runs_of(two)).endswith(" tokens, leash 2, seed 0")
    assert "; 100 steps of windows of 256 tokens" in describe(runs_of([plain, with_levers(plain, batch_size=4)]))


def test_older_layouts_and_empty_folders_are_refused_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no result.json in .*nowhere or directly below it"):
        find_runs([tmp_path / "nowhere"])
    write_result(tmp_path, {"lr": 1, "before": {}})
    with pytest.raises(ValueError, match="result.json is of another version: after, best, .*; delete it and run again"):
        find_runs([tmp_path])
    older = result_of()
    del older["before"]["distinct_2"], older["before"]["with_top_k_ci"]
    write_result(tmp_path, older)
    with pytest.raises(ValueError, match="of another version: distinct_2, with_top_k_ci missing"):
        find_runs([tmp_path])


def test_a_result_that_is_not_as_it_was_written_is_damaged(tmp_path):
    """Changed by hand, in any place; it would break its readers far from here, or show numbers that nobody measured."""
    file = tmp_path / "result.json"
    write_result(tmp_path, result_of())
    whole = file.read_text(encoding="utf-8")
    file.write_text(json.dumps(json.loads(whole), sort_keys=True), encoding="utf-8")  # the same, laid out differently
    assert read_result(tmp_path) == json.loads(json.dumps(result_of()))
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
            read_result(tmp_path)
        assert "\n" not in str(error.value)


def test_a_result_that_is_no_json_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result(tmp_path, result_of(train_loss=[4.0, math.nan]))
    assert not (tmp_path / "result.json").exists()


def test_a_learning_rate_is_written_as_people_write_it():
    assert [lr_label(lr) for lr in (1e-4, 2.5e-5, 3e-3, 1.0)] == ["1e-4", "2.5e-5", "3e-3", "1e0"]


# python -m evaluate


def test_the_command_measures_a_run_as_it_measured_itself(command, refused, model_folder, text_file, tmp_path):
    """Flags that are given come first; without a run's settings the flags alone count."""
    run, book = shutil.copytree(model_folder, tmp_path / "run"), load_book(str(text_file))
    result = result_of()
    asked = {"eval_sequences": 5, "eval_tokens": 4, "top_k": 3, "temperature": 0.5, "seed": 2}
    asked |= {"holdout": 0.25, "seq_len": 8}
    result["settings"] |= asked | {"text": str(text_file), "text_sha256": book.sha256}
    write_result(run, result)

    def row(*arguments):
        code, out, err = command(evaluate_command.main, *arguments, "--dtype", "float32")
        assert code == 0, err
        return [cell.strip() for cell in out.splitlines()[2].split("|")[1:-1]]

    own, tokens = row(run), torch.tensor(load_tokenizer(model_folder).encode_ordinary(book.text))
    assert own[1:3] == ["islands", "5 x 4 tokens, temperature 0.5, top-k 3, seed 2, float32"]
    expected = frequent_token_ratio(
        load_pretrained(model_folder),
        most_frequent_tokens(tokens[: len(tokens) - round(0.25 * len(tokens))]),
        Sampling(5, 4, 0.5, 3, 2),
        vocab_size=VOCAB,
        banned=[VOCAB - 1],
    )
    low, high = expected.ratio_ci
    ratios = [f"{ratios.mean():.3f}" for ratios in (expected.without_top_k, expected.with_top_k)]
    assert own[3:6] == [f"{expected.ratio:.3f} ({low:.3f} to {high:.3f})", *ratios]
    assert row(run, "--top-k", 0)[2] == "5 x 4 tokens, temperature 0.5, top-k off, seed 2, float32"
    flags = ("--text", text_file, "--eval-sequences", 5, "--eval-tokens", 4, "--top-k", 3, "--temperature", 0.5)
    flags += ("--holdout", 0.25)  # the list of frequent tokens is that of the rest
    assert row(model_folder, *flags, "--seed", 2)[1:] == own[1:]
    result["settings"] |= {"text_sha256": "0badcafe" * 8, "raw_text": True}
    write_result(run, result)
    err = refused(evaluate_command.main, run)
    assert re.search(r"is not the one that .*run was trained on .*was 0badcafe\); name the text .* with --text", err)
    assert row(run, "--text", text_file, "--holdout", 0.25)[1:] == own[1:]  # and not as served
    assert "no model or folder" in refused(evaluate_command.main, run, tmp_path / "none", "--text", text_file)


FEW = ("--dtype", "float32", "--eval-sequences", 2, "--eval-tokens", 2)


def test_the_command_reads_what_a_run_held_out_and_other_texts_as_a_whole(
    command, model_folder, official_weights, tokenizer_folder, tmp_path
):
    run, file, other = shutil.copytree(model_folder, tmp_path / "best"), tmp_path / "own.txt", tmp_path / "other.txt"
    weights = {"wte.weight": official_weights["wte.weight"] / 2, "wpe.weight": np.ones((300, WIDTH))}
    best = write_model(run / "best", official_file(official_weights | weights), tokenizer_folder, n_positions=300)
    alone = shutil.copytree(best, run / "other")  # no part of the run
    served, others, result = "naïve captains 測った\n" * 40, "the captain's café " * 40 + "é", result_of()
    file.write_text(served, encoding="utf-8")
    other.write_text(others, encoding="utf-8")
    own = served.strip()
    result["settings"] |= {"text": str(file), "text_sha256": load_book(file).sha256, "seq_len": 8}
    result["settings"] |= {"eval_sequences": 2, "eval_tokens": 2}
    for folder, holdout, raw, flags, text, share, seq_len in [
        (run, 0.25, False, (), own, 0.25, 8),
        (run, 0.25, False, ("--text", file), own, 0.25, 8),
        (run, 0.25, False, ("--text", other), others, 1, 8),
        (run, 0.25, False, ("--raw-text",), served, 1, 8),
        (run, 0.25, True, (), served, 0.25, 8),
        (run, 0.25, False, ("--holdout", 0), own, 1, 8),
        (run, 0.0, False, (), own, 1, 8),
        (best, 0.25, False, (), own, 0.25, 8),
        (alone, 0.25, False, ("--text", file), own, 1, 256),
        (model_folder, 0.25, False, ("--text", other, "--holdout", 0.5), others, 0.5, 24),
    ]:
        result["settings"] |= {"holdout": holdout, "raw_text": raw}
        write_result(run, result)
        tokenizer = load_tokenizer(folder)
        tokens = tokenizer.encode_ordinary(text)
        first = len(tokens) - round(share * len(tokens))
        loss = text_loss(load_pretrained(folder), torch.tensor(tokens[first:]), seq_len)
        size = len(text.encode()) - len(tokenizer.decode_bytes(tokens[: first + 1]))  # without what is not predicted
        bits = loss / math.log(2) * (len(tokens) - first - 1) / size
        read = f"{'last' if first else 'all'} {len(tokens) - first:,} tokens, in windows of {seq_len}"
        _, out, err = command(evaluate_command.main, folder, *flags, *FEW)
        assert out.endswith(f"\n| {folder} | {read} | {loss:.3f} | {perplexity(loss)} | {bits:.3f} |\n"), out + err


def test_the_command_finds_the_loss_that_the_run_found(command, trained, tmp_path):
    """Also where the held-out text is shorter than two windows: a run reads it in two halves."""
    result = trained("run", "--lr", "1e-3", "--holdout", 0.004)
    found = f"last {result['held_out_tokens']} tokens, in windows of 16 | {result['after']['held_out_loss']:.3f} |"
    assert result["held_out_tokens"] < 32 and found in command(evaluate_command.main, tmp_path / "run")[1]


def test_the_command_refuses_a_text_without_a_token_to_predict(command, refused, model_folder, tmp_path):
    file = tmp_path / "short.txt"
    for run, text, holdout, said in (
        (refused, "", 0, "is empty"),
        (refused, "z", 0, "1 of the 1 tokens of .*short.txt are too few to predict; use a longer text$"),
        (refused, "zz", 0.99, "2 of the 2 tokens of .* use a longer text$"),
        (command, "zz", 0, "all 2 tokens"),
        (command, "zzz", 0.99, "last 3 tokens"),
    ):
        file.write_text(text)
        found = run(evaluate_command.main, model_folder, "--text", file, "--holdout", holdout, *FEW)
        assert re.search(said, "".join(map(str, found)))
