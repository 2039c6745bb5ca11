"""The levers: each against something independent, then all of them in runs."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import make_text, stopping_after, without_seconds
from pretended import Pretended
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

import train.__main__ as train_command
from data.batches import sample_batch
from data.settings import Training
from data.tokenizer import load_tokenizer
from evaluate.results import read_result
from model.pretrained import load_pretrained
from train import sweep
from train.adamw import AdamW
from train.levers import clipped, leashed, rate_of_step, scheduled, trained_parameters
from train.loop import finetune, plain_gradients
from train.speed.step import fast_gradients


@pytest.fixture
def tokens(tokenizer_folder):
    return torch.tensor(load_tokenizer(tokenizer_folder).encode_ordinary(make_text(2000, seed=6)))


@pytest.fixture
def batch(tokens):
    return sample_batch(tokens, 5, 9, 0, 0)


@pytest.fixture
def base(model_folder):
    return load_pretrained(model_folder).double()


@pytest.fixture
def tuned(model_folder):
    """The base model with every weight moved a little, in float64."""
    model, generator = load_pretrained(model_folder).double(), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model


# The rate


def rate(step: int, samples: int = 10, **levers) -> float:
    return rate_of_step(step, 6.0, Training(samples, **levers))


def test_a_constant_rate_stays():
    assert [rate(step) for step in range(10)] == [6.0] * 10


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_decay_begins_at_the_peak(schedule):
    assert rate(0, schedule=schedule) == pytest.approx(6.0)


def test_a_linear_decay_is_a_straight_line():
    falls = [rate(step, schedule="linear") - rate(step + 1, schedule="linear") for step in range(9)]
    assert falls == pytest.approx([falls[0]] * 9) and falls[0] > 0


def test_a_cosine_is_half_way_at_half_time():
    assert rate(5, schedule="cosine") == pytest.approx(3.0)


def test_a_cosine_falls_slowly_at_first():
    """At a quarter of the way it has lost (1 - cos 45 degrees) / 2 of the peak."""
    assert rate(2, samples=8, schedule="cosine") == pytest.approx(6 * (1 - (1 - math.sqrt(0.5)) / 2))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_decay_would_be_zero_in_the_step_after_the_last(schedule):
    assert rate(9, schedule=schedule) > 0.1 and rate(10, schedule=schedule) == pytest.approx(0.0, abs=1e-12)


def test_the_first_step_of_a_warm_up_is_not_zero():
    assert rate(0, warmup=3) > 0


def test_a_warm_up_rises_in_equal_parts():
    first, second, third = (rate(step, warmup=3) for step in range(3))
    assert [second - first, third - second] == pytest.approx([first, first])


def test_a_warm_up_ends_with_the_peak():
    assert rate(2, warmup=3) == pytest.approx(6.0)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_warm_up_is_the_same_in_every_schedule(schedule):
    assert [rate(step, warmup=4, schedule=schedule) for step in range(4)] == pytest.approx([1.5, 3.0, 4.5, 6.0])


def test_after_a_warm_up_the_rate_is_the_schedules():
    assert [rate(step, warmup=3) for step in range(3, 10)] == [6.0] * 7


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_decay_begins_after_the_warm_up(schedule):
    assert rate(3, warmup=3, schedule=schedule) == pytest.approx(6.0)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_decay_takes_all_steps_after_the_warm_up(schedule):
    """With a warm-up of 2 of 10 it takes 8 steps: 4 of them are done at step 6."""
    rates = [rate(step, warmup=2, schedule=schedule) for step in (6, 10)]
    assert rates == pytest.approx([3.0, 0.0], abs=1e-12)


def test_a_warm_up_may_take_all_steps():
    assert [rate(step, samples=3, warmup=3, schedule="linear") for step in range(4)] == pytest.approx([2, 4, 6, 6])


def test_the_rates_by_hand():
    def rates(count, peak, samples, **levers):
        return [rate_of_step(step, peak, Training(samples, **levers)) for step in range(count)]

    assert rates(6, 10.0, 5, schedule="linear") == pytest.approx([10, 8, 6, 4, 2, 0])
    assert rates(5, 1.0, 4, schedule="cosine") == pytest.approx([1, 0.8535534, 0.5, 0.1464466, 0])
    assert rates(5, 6.0, 5, schedule="linear", warmup=2) == pytest.approx([3, 6, 6, 4, 2])
    assert rates(4, 6.0, 4, warmup=3) == pytest.approx([2, 4, 6, 6])
    assert rates(2, 1.0, 1, schedule="cosine", warmup=1) == [1.0, 1.0]  # as many steps of warm-up as there are


@pytest.mark.parametrize("schedule, warmup", [("constant", 0), ("constant", 3), ("linear", 3), ("cosine", 4)])
def test_a_scheduled_run_is_torchs(model_folder, tokens, schedule, warmup):
    """Losses and weights of AdamW with torch's own schedulers; and the rate is a function of the step alone."""
    settings = Training(samples=8, batch_size=3, seq_len=7, seed=9, schedule=schedule, warmup=warmup)

    def train(model, optimizer):
        return list(scheduled(finetune(model, tokens, optimizer, settings), optimizer, 0.01, settings))

    ours, theirs = (load_pretrained(model_folder).double() for _ in range(2))
    losses = train(ours, AdamW(ours.parameters(), 0.01, weight_decay=0.2))
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.2)
    after = {
        "constant": lambda: LinearLR(optimizer, 1, 1),
        "linear": lambda: LinearLR(optimizer, 1, 0, total_iters=8 - warmup),
        "cosine": lambda: CosineAnnealingLR(optimizer, 8 - warmup),
    }[schedule]
    rising = [LinearLR(optimizer, 1 / warmup, 1, total_iters=warmup - 1)] if warmup else []
    scheduler = SequentialLR(optimizer, [*rising, after()], [warmup][: len(rising)])
    for step, loss in enumerate(losses):
        inputs, targets = sample_batch(tokens, 3, 7, 9, step)
        expected = F.cross_entropy(theirs(inputs).transpose(1, 2), targets)
        assert loss == pytest.approx(expected.item(), abs=1e-10)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        scheduler.step()
    for p, q in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-7)

    # Five steps, and three by another loop that begins there.
    model = load_pretrained(model_folder).double()
    optimizer = AdamW(model.parameters(), 0.01, weight_decay=0.2)
    steps = scheduled(finetune(model, tokens, optimizer, settings), optimizer, 0.01, settings)
    parts = [next(steps) for _ in range(5)]
    steps.close()
    assert not model.training
    assert parts + train(model, optimizer) == losses


# The trained part

PARTS = {  # the endings of the names that are trained in every block, and the names beside the blocks
    "all": (("",), ("wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias")),
    "attention": (("attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias"), ()),
    "mlp": (("mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"), ()),
    "norms": (("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"), ("ln_f.weight", "ln_f.bias")),
    "last:1": (("",), ("ln_f.weight", "ln_f.bias")),
    "last:2": (("",), ("ln_f.weight", "ln_f.bias")),
}


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("part", PARTS)
def test_only_the_part_moves(model_folder, tokens, part, fast):
    """With weight decay and in micro-batches; the frozen have no moments and no gradient, and keep every bit."""
    endings, beside = PARTS[part]
    blocks = ("h.1.",) if part == "last:1" else ("h.0.", "h.1.")
    model, before = load_pretrained(model_folder), dict(load_pretrained(model_folder).named_parameters())
    expected = {n for n in before if n in beside or (n.startswith(blocks) and n.endswith(endings))}
    optimizer = AdamW(trained_parameters(model, part), 1e-2, weight_decay=0.5)
    assert len(optimizer.m) == len(optimizer.v) == len(expected)
    gradients = fast_gradients(torch.float32, 2) if fast else plain_gradients
    gradients(model, *sample_batch(tokens, 3, 7, 0, 0))
    assert {name for name, p in model.named_parameters() if p.grad is not None} == expected
    optimizer.zero_grad()
    list(finetune(model, tokens, optimizer, Training(samples=2, batch_size=3, seq_len=7), gradients))
    assert {name for name, p in model.named_parameters() if not torch.equal(p, before[name])} == expected


def test_a_frozen_head_makes_no_gradient_of_its_size(model_folder, batch, monkeypatch):
    model, made = load_pretrained(model_folder), []
    zeros_like = torch.zeros_like
    monkeypatch.setattr(torch, "zeros_like", lambda *args, **dtype: made.append(args[0].shape) or zeros_like(*args, **dtype))
    for part, sizes in (("all", [model.wte.weight.shape]), ("mlp", [])):
        made.clear()
        trained_parameters(model, part)
        fast_gradients(torch.float32)(model, *batch)
        assert made == sizes


def test_more_blocks_than_there_are(model_folder):
    with pytest.raises(ValueError, match="the model has 2 blocks; use last:2 or less"):
        trained_parameters(load_pretrained(model_folder), "last:3")


# The leash


def gradients_of(model, compute, batch):
    for p in model.parameters():
        p.grad = None
    loss = compute(model, *batch)
    return loss, [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_the_leash_is_its_definition(base, tuned, batch, beta):
    """By torch's own divergence, base || tuned; the loss that is returned is without it."""

    def definition(model, inputs, targets):
        log_p, log_q = (m(inputs).log_softmax(-1).flatten(0, 1) for m in (base, model))
        loss = F.nll_loss(log_q, targets.flatten())
        (loss + beta * F.kl_div(log_q, log_p.detach(), log_target=True, reduction="batchmean")).backward()
        return loss.item()

    loss, expected = gradients_of(tuned, definition, batch)
    found_loss, found = gradients_of(tuned, leashed(base, beta), batch)
    assert found_loss == pytest.approx(loss, abs=1e-12)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert all(p.grad is None for p in base.parameters())


@pytest.mark.parametrize("device", ["cpu", "cuda"])  # on a GPU there is one chunk, and the vocabulary is padded
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_the_fast_leash_is_the_plain_one(base, tuned, batch, micro_batch, device, monkeypatch):
    monkeypatch.setattr("train.speed.chunked_loss.CHUNK_ROWS", 20)  # 45 rows: whole chunks and a rest
    monkeypatch.setattr("train.speed.chunked_loss.EXACT_ROWS", 7)
    loss, expected = gradients_of(tuned, leashed(base, 1.5), batch)
    with Pretended():
        there = [part.to(device) for part in batch]
        gradients = fast_gradients(torch.float32, micro_batch, base.to(device), 1.5)
        found_loss, found = gradients_of(tuned.to(device), gradients, there)
        found = [gradient.cpu() for gradient in found]
    assert found_loss == pytest.approx(loss, abs=1e-12)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_leash_in_bfloat16(base, tuned, batch):
    loss, expected = gradients_of(tuned, leashed(base, 1.5), batch)
    low_loss, low = gradients_of(tuned.float(), fast_gradients(torch.bfloat16, None, base.bfloat16(), 1.5), batch)
    assert low_loss == pytest.approx(loss, rel=2e-3)
    together = [torch.cat([g.double().flatten() for g in gradients]) for gradients in (expected, low)]
    assert F.cosine_similarity(*together, dim=0) > 0.999
    torch.testing.assert_close(together[1].norm(), together[0].norm(), rtol=1e-2, atol=0)


def test_at_the_base_model_the_leash_pulls_nowhere(base, model_folder, batch):
    model = load_pretrained(model_folder).double()
    _, plain = gradients_of(model, plain_gradients, batch)
    _, found = gradients_of(model, fast_gradients(torch.float32, None, base, 100.0), batch)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-12)


# The clip


def test_one_factor_for_all_gradients(tuned, batch):
    parameters = list(tuned.parameters())
    loss, plain = gradients_of(tuned, plain_gradients, batch)
    norm = math.sqrt(sum(float((g**2).sum()) for g in plain))
    for most, factor in ((norm / 4, 0.25), (2 * norm, 1.0)):
        found_loss, found = gradients_of(tuned, clipped(plain_gradients, parameters, most), batch)
        assert found_loss == loss
        torch.testing.assert_close(found, [factor * g for g in plain], rtol=1e-5, atol=0)


def test_a_gradient_whose_norm_is_no_number_is_left_to_the_loop(tuned, batch):
    """Scaled by 1 / inf it would be 0, and the run would go on with empty steps."""

    def huge(model, inputs, targets):
        for p in model.parameters():
            p.grad = torch.full_like(p, 1e200)
        return 1.0

    clipped(huge, list(tuned.parameters()), 1.0)(tuned, *batch)
    assert all((p.grad == 1e200).all() for p in tuned.parameters())


# In runs

ALL = ("--schedule", "cosine", "--warmup", 2, "--train", "last:1", "--leash", 0.5, "--clip", 0.7)


def test_a_run_uses_every_lever(trained, model_folder, text_file, monkeypatch):
    """The run is the loop with the plain levers; without one of them its losses are others."""
    flags = ("--lr", 0.01, "--samples", 5, "--dtype", "float32", "--holdout", 0)
    result = trained("all", *flags, *ALL)
    tokens = torch.tensor(load_tokenizer(model_folder).encode_ordinary(text_file.read_text(encoding="utf-8").strip()))
    settings = Training(5, batch_size=4, seq_len=16, schedule="cosine", warmup=2)
    model, base = load_pretrained(model_folder), load_pretrained(model_folder)
    optimizer = AdamW(trained_parameters(model, "last:1"), 0.01)
    gradients = clipped(leashed(base, 0.5), optimizer.parameters, 0.7)
    losses = list(scheduled(finetune(model, tokens, optimizer, settings, gradients), optimizer, 0.01, settings))
    assert result["train_loss"] == pytest.approx(losses, rel=1e-5)
    assert result["rates"] == [rate_of_step(k, 0.01, settings) for k in range(5)]
    settings = {"schedule": "cosine", "warmup": 2, "train": "last:1", "leash": 0.5, "clip": 0.7}
    assert settings.items() <= result["settings"].items() and settings.items() <= result["identity"].items()
    for i in range(0, len(ALL), 2):
        without = ALL[:i] + ALL[i + 2 :]
        assert trained(f"without {ALL[i]}", *flags, *without)["train_loss"] != result["train_loss"], ALL[i]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_interrupted_run_goes_on_bit_for_bit(command, small_run, tmp_path, dtype):
    flags = (*small_run, "--samples", 6, "--dtype", dtype, *ALL, "--micro-batch", 3, "--out")
    assert command(train_command.main, *flags, tmp_path / "whole")[0] == 0
    with stopping_after(3):
        assert command(train_command.main, *flags, tmp_path / "parts")[0] == 130
    code, printed, _ = command(train_command.main, *flags, tmp_path / "parts")
    assert code == 0 and "continuing from step 3 of 6" in printed
    assert without_seconds(tmp_path / "parts") == without_seconds(tmp_path / "whole")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_a_sweep_makes_the_product(command, refused, small_run, tmp_path, monkeypatch):
    monkeypatch.setattr("train.run.jobs.report", lambda folder: None)
    out = ("--out", tmp_path / "out")
    levers = ("--schedule", "constant", "linear", "--leash", 0, 2)
    code, _, err = command(sweep.main, *small_run, "--lrs", "1e-3", "1e-4", *levers, *out)
    assert code == 0, err
    names = {"", "-linear", "-leash-2", "-linear-leash-2"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"lr-1e-{n}{x}" for n in (3, 4) for x in names}
    both = read_result(tmp_path / "out" / "lr-1e-3-linear-leash-2")
    assert (both["settings"]["schedule"], both["settings"]["leash"]) == ("linear", 2.0)
    assert read_result(tmp_path / "out" / "lr-1e-3")["rates"] == [1e-3] * 4
    # Another lever joins them in the same folder.
    code, _, err = command(sweep.main, *small_run, "--lrs", "1e-3", "--clip", 0.1, "--seeds", 2, *out)
    assert code == 0 and (tmp_path / "out" / "lr-1e-3-clip-0.1-seed1").is_dir(), err
    # A run by itself goes where a sweep would put it.
    monkeypatch.chdir(tmp_path)
    assert command(train_command.main, *small_run, "--lr", "1e-3", "--leash", 2)[0] == 0
    assert [path.name for path in tmp_path.glob("runs/*/*")] == ["lr-1e-3-leash-2"]
    # With --out that place is not looked at, whatever lies there.
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    [default] = tmp_path.glob("elsewhere/*/*")
    (tmp_path / "runs" / default.parent.name / default.name).mkdir(parents=True)
    (tmp_path / "runs" / default.parent.name / default.name / "run.json").write_text("{", encoding="utf-8")
    assert command(train_command.main, *small_run, "--lr", "1e-3", "--leash", 2, "--out", tmp_path / "own")[0] == 0
    assert "--leash names a value twice" in refused(sweep.main, *small_run, "--leash", 2, "2.0", *out)
    line = refused(train_command.main, *small_run, "--lr", "1e-3", "--clip", 1, "--out", tmp_path / "out" / "lr-1e-3")
    assert "clip was None, is 1.0" in line


def test_a_decay_cannot_go_on(command, refused, small_run, tmp_path):
    for schedule in ("constant", "linear"):
        flags = (*small_run, "--lr", "1e-3", "--schedule", schedule, "--warmup", 2, "--out", tmp_path / schedule)
        keep = ("--keep-state",) if schedule == "constant" else ()
        assert command(train_command.main, *flags, *keep)[0] == 0
        if schedule == "constant":
            assert command(train_command.main, *flags, "--samples", 6)[0] == 0
        else:
            assert "samples was 4, is 6" in refused(train_command.main, *flags, "--samples", 6)


@pytest.mark.parametrize(
    "flags, line",
    [
        ("--warmup 5", "--warmup 5 is over the 4 steps"),
        ("--warmup -1", "'-1' is not a whole number from 0 up"),
        ("--leash -1", "'-1' is not a finite number from 0 up"),
        ("--leash nan", "'nan' is not a finite number from 0 up"),
        ("--train last:0", "'last:0' is not all, attention, mlp, norms, nor last:N"),
        ("--train last:3", "the model has 2 blocks; use last:2 or less"),
        ("--train head", "'head' is not all, attention"),
        ("--clip 0", "'0' is not a finite number above 0"),
        ("--lr 0 --leash 1", "'0' is not a finite number above 0"),
        ("--schedule linear --patience 3", "--schedule linear needs a known end; leave out --patience"),
        ("--schedule cosine --keep-state", "--schedule cosine needs a known end"),
        ("--schedule square", "invalid choice: 'square'"),
    ],
)
def test_odd_levers_are_refused_in_one_line(refused, small_run, tmp_path, flags, line):
    assert line in refused(train_command.main, *small_run, *flags.split(), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
