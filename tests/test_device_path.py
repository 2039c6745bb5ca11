"""What runs on a GPU, on a pretended one: the CPU's numbers, nothing left on the CPU, and how often it is waited for."""

import json
import os
import signal
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import BLOCK, VOCAB
from pretended import Pretended, There
from torch.nn.utils import get_total_norm
from torch.utils._python_dispatch import TorchDispatchMode

import evaluate.__main__ as evaluate_command
import model.__main__ as answer_command
import train.__main__ as train_command
import train.find.__main__ as find_command
import train.pretrain.__main__ as pretrain_command
import train.verify.__main__ as verify_command
from data.batches import sample_batch
from data.settings import Sampling, Training
from evaluate.loss import text_loss
from evaluate.measures.copying import extraction
from evaluate.measures.forgetting import divergence_from_base
from evaluate.ratio import frequent_token_ratio
from model.device import Machine
from model.gpt2 import GPT2Config
from model.pretrained import load_pretrained
from model.sampling import KeyValueCache, cast_copy, complete, sample_token
from model.speed.attention import fused_attention
from model.speed.centred import centred_head
from model.speed.empty import empty_model
from train import sweep
from train.adamw import AdamW
from train.experiment import experiment
from train.loop import finetune, plain_gradients
from train.speed.adamw import FusedAdamW
from train.speed.chunked_loss import chunked_next_token_loss, padded_head
from train.speed.step import bfloat16_loss, fast_gradients

TOKENS = torch.from_numpy(np.random.default_rng(8).integers(VOCAB, size=500))


@pytest.fixture(autouse=True)
def no_tf32():
    """A machine with CUDA switches it on for the whole process."""
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.fixture(autouse=True)
def writing_as_on_a_gpu(monkeypatch):
    """Packed layers and an attention by two products are the CPU's alone, and round differently."""
    monkeypatch.setattr("model.sampling.can_pack", lambda weight: False)
    monkeypatch.setattr("model.sampling.TWO_PRODUCTS", ())


# The pretended device itself


def test_what_a_gpu_refuses_is_refused_and_what_waits_is_counted():
    with Pretended() as gpu:
        there = torch.arange(3.0, device="cuda")
        assert there.device == torch.device("cuda:0") and gpu.sent == []
        sent = torch.ones(3).to(there.device) + torch.tensor([1.0, 2.0, 3.0], device="cuda")
        assert gpu.sent == gpu.waits == ["to", "tensor"]
        for operation in (
            lambda: there + torch.ones(3),
            lambda: torch.stack([there, torch.ones(3)]),
            lambda: there[torch.tensor([0, 1])],
            lambda: torch.ones(3).add_(there),
        ):
            with pytest.raises(RuntimeError, match="a tensor on cuda:0 and one on the CPU"):
                operation()
        there *= torch.tensor(2.0)  # a single number may come from the CPU
        assert gpu.sent == gpu.waits == ["to", "tensor"]
        assert (there.sum() + sent.sum()).item() == 15.0 and there.tolist() == [0.0, 2.0, 4.0] and bool(there.any())
        assert [float(there[1]), *there.cpu().numpy()] == [2.0, 0.0, 2.0, 4.0]
        assert torch.zeros(3).copy_(there).tolist() == [0.0, 2.0, 4.0] and len(there[there > 1]) == 2
        assert len(gpu.waits) == 2 + 7
        assert there.copy_(torch.ones(3)) is there and len(gpu.waits) == 2 + 8 and len(gpu.sent) == 3
        with pytest.raises(RuntimeError):
            there.numpy()


# Training


@pytest.fixture
def same_rounding(monkeypatch):
    """The CPU has an attention of its own in bfloat16, and a GPU pads the vocabulary. Both round in other places: they
    are left out where CPU and GPU are compared bit for bit."""
    monkeypatch.setattr("train.speed.step.window_attention", fused_attention)
    monkeypatch.setattr("train.speed.chunked_loss.padded_head", centred_head)


@pytest.mark.parametrize("kind", [AdamW, FusedAdamW])
@pytest.mark.parametrize(
    "gradients",
    [plain_gradients, fast_gradients(torch.float32), fast_gradients(torch.bfloat16), fast_gradients(torch.bfloat16, 1)],
)
def test_a_step_on_a_device(model_folder, kind, gradients, same_rounding):
    """It sends nothing but the tokens, once, and waits for the loss and the gradient's length, however many the parts."""

    def trained(device):
        model = load_pretrained(model_folder).to(device)
        losses, crossed = [], []
        optimizer = kind(model.parameters(), lr=1e-2)
        gpu.sent.clear(), gpu.waits.clear()
        for loss in finetune(model, TOKENS, optimizer, Training(samples=3, batch_size=4, seq_len=9), gradients):
            losses.append(loss)
            crossed.append((len(gpu.sent), len(gpu.waits)))
            gpu.sent.clear(), gpu.waits.clear()
        return losses, crossed, [p.cpu() for p in (*model.parameters(), *optimizer.m, *optimizer.v)]

    with Pretended() as gpu:
        losses, crossed, found = trained("cuda")
        expected = trained("cpu")
    assert losses == expected[0] and all(map(torch.equal, found, expected[2]))
    assert crossed == [(1, 1 + 2), (0, 2), (0, 2)] and expected[1] == [(0, 0)] * 3


def test_a_device_has_its_own_attention_in_bfloat16(model_folder, monkeypatch):
    monkeypatch.setattr("train.speed.step.window_attention", lambda *_: pytest.fail("the CPU's is used"))
    with Pretended():
        model = load_pretrained(model_folder).to("cuda")
        inputs = TOKENS[:8].view(2, 4).to("cuda")
        bfloat16_loss(model, inputs, targets=inputs)


# Writing and measuring


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 9}, {}, {"top_k": 9, "use_cache": False}])
def test_writing_on_a_device_waits_for_no_token(model_folder, settings, dtype):
    prompts = TOKENS[:15].view(5, 3)
    with Pretended() as gpu:

        def written(device):
            model = cast_copy(load_pretrained(model_folder).to(device), dtype)
            gpu.sent.clear(), gpu.waits.clear()
            return complete(model, prompts.to(device), BLOCK - 3, seed=3, banned=[VOCAB - 1], **settings)

        found = written("cuda")
        assert gpu.waits == gpu.sent and len(gpu.sent) == 3  # the prompts, all random numbers, what is banned
        assert torch.equal(found.cpu(), written("cpu"))


@pytest.mark.parametrize("kinds", [6, 10_000])  # of logits: most tie, hardly any do
@pytest.mark.parametrize("k", [1, 5, 50, 299])
def test_the_most_likely_tokens_on_a_device_are_those_on_the_cpu(kinds, k):
    rng = np.random.default_rng(0)
    logits, uniform = (
        torch.from_numpy(rng.integers(kinds, size=(200, 300)) / 4).float(),
        torch.from_numpy(rng.random(200)),
    )
    with Pretended() as gpu:
        drawn = sample_token(logits.to("cuda"), uniform.to("cuda"), top_k=k)
        assert gpu.waits == ["to", "to"] and torch.equal(drawn.cpu(), sample_token(logits, uniform, top_k=k))


def test_measuring_on_a_device_waits_once_for_each_number(model_folder):
    with Pretended() as gpu:

        def measured(device):
            base, tuned = (load_pretrained(model_folder).to(device) for _ in range(2))
            with torch.no_grad():
                tuned.ln_f.bias += 0.1
            tokens, texts = TOKENS.to(device), TOKENS.view(50, 10).to(device)
            sampling = Sampling(sequences=70, new_tokens=5, top_k=9)  # a group; on the CPU two
            found = []
            for measure, waits in (
                (lambda: text_loss(tuned, tokens, 16), 1),
                (lambda: [means.tolist() for means in divergence_from_base(base, tuned, texts)], 2),
                (lambda: extraction(tuned, tokens, prompt_tokens=5, new_tokens=5).tolist(), 1 + 2),  # as below
                (
                    lambda: (
                        frequent_token_ratio(tuned, range(100), sampling, vocab_size=VOCAB, device=tokens.device).shares
                    ),
                    2 + 4,  # texts and probabilities; what is sent before the first token
                ),
            ):
                gpu.waits.clear()
                found.append(measure())
                assert len(gpu.waits) == (waits if device == "cuda" else 0), gpu.waits
            return found

        assert measured("cuda") == measured("cpu")


@pytest.mark.parametrize("sampling", [Sampling(70, 5, top_k=9), Sampling(70, 8, temperature=0.7, top_k=0)])
def test_the_texts_for_the_ratio_wait_for_no_token(model_folder, sampling):
    with Pretended() as gpu:

        def written(device):
            model = load_pretrained(model_folder).to(device)
            gpu.waits.clear()
            return frequent_token_ratio(model, range(100), sampling, vocab_size=VOCAB, device=device)

        found = written("cuda")
        # Back come the texts and their probabilities, of one group. Start tokens, frequent ids, random numbers and what
        # is banned are sent.
        assert len(gpu.waits) == 2 + 4
        expected = written("cpu")
    assert torch.equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.without_top_k, expected.without_top_k, rtol=1e-12)
    np.testing.assert_allclose(found.with_top_k, expected.with_top_k, rtol=1e-12)


# A run from its first line to its last


@pytest.mark.parametrize("device", ["cuda", "mps"])  # mps has no float64
def test_a_run_on_a_device_that_is_interrupted_ends_as_one_on_the_cpu(
    command, small_run, tmp_path, monkeypatch, device, same_rounding
):
    """Everything: the check against the CPU, writing, training, measuring, saving, going on, the model."""
    state, put_back = torch.arange(16, dtype=torch.uint8), []
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "pretended")
    monkeypatch.setattr("torch.cuda.get_rng_state", lambda device: state)
    monkeypatch.setattr("torch.cuda.set_rng_state", lambda *given: put_back.append(given))
    flags, calls = (*small_run, "--lr", "1e-2", "--samples", 6, "--dtype", "bfloat16"), []

    def pulls_the_plug(*settings):
        gradients = fast_gradients(*settings)

        def until_then(model, *batch):
            assert isinstance(batch[0], There)
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return gradients(model, *batch)

        return until_then

    with Pretended(device) as gpu:
        code, _, err = command(train_command.main, *flags, "--device", "cpu", "--out", tmp_path / "cpu")
        assert code == 0 and gpu.sent == gpu.waits == [], err
        there = (train_command.main, *flags, "--device", device, "--out", tmp_path / device)
        monkeypatch.setattr("train.run.run.fast_gradients", pulls_the_plug)
        code, _, err = command(*there)
        assert code == 143 and put_back == [], err
        code, _, err = command(*there)
        assert code == 0 and [torch.equal(given, state) for given, _ in put_back] == [True] * (device == "cuda"), err
    # Over all tokens and over some, a float64 sum is the same but for its last bit.
    files = (tmp_path / name / "result.json" for name in (device, "cpu"))
    found, expected = (json.loads(f.read_text("utf-8"), parse_float=lambda n: f"{float(n):.12g}") for f in files)
    for result in (found, expected):
        for part in (result["before"], result["after"], result["settings"]):
            part.pop("seconds", None), part.pop("device", None)
        assert result.pop("sha256") and result.pop("environment")["device"] in (device, "cpu")
    assert found == expected
    models = [load_pretrained(tmp_path / name).state_dict() for name in (device, "cpu")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[1])


def test_the_other_doors_to_a_device(command, model_folder, text_file):
    """A model that answers, the ratio of a finished one, and the experiment as one function."""
    written = ("--text", text_file, "--eval-sequences", 4, "--eval-tokens", 6)
    small = dict(model=model_folder, text=text_file, batch_size=2, seq_len=9, sampling=Sampling(4, 6))
    outcomes = {}
    with Pretended():
        for device in ("cuda", "cpu"):
            machine = ("--device", device, "--dtype", "float32")
            answer = command(answer_command.main, model_folder, "the king", "--tokens", 9, *machine)
            ratio = command(evaluate_command.main, model_folder, *written, *machine)
            done = experiment(1e-2, 2, device=device, **small)
            assert isinstance(done.model.wte.weight, There) == (device == "cuda")
            outcomes[device] = answer, ratio, done.losses, done.before.shares, done.after.shares
    assert outcomes["cuda"] == outcomes["cpu"] and answer[0] == ratio[0] == 0


def test_a_step_on_a_gpu_is_recorded_once(model_folder, monkeypatch):
    """For each model and size of batch; Python computes no loss after that. The gradients are the eager ones'."""
    calls, batches, sums, eager = [], [], [], chunked_next_token_loss
    monkeypatch.setattr("train.speed.step.chunked_next_token_loss", lambda *given: calls.append(1) or eager(*given))
    with Pretended():
        models = [load_pretrained(model_folder).to("cuda") for _ in range(2)]
        models[1].ln_f.weight.requires_grad_(False)
        gradients = fast_gradients(torch.float32)
        # A first pass for the libraries and one that is recorded, for a new model and for a batch of another size.
        for step, (model, B, recorded) in enumerate([(0, 3, 2), (0, 3, 0), (1, 3, 2), (1, 3, 0), (1, 2, 2)]):
            batch = [ids.to("cuda") for ids in sample_batch(TOKENS, B, 9, 0, step)]
            model, plain = models[model], load_pretrained(model_folder).to("cuda")
            plain.load_state_dict(model.state_dict())
            calls.clear()
            loss = gradients(model, *batch)
            batches.append(batch)
            sums.append(int(batch[0].sum()))
            assert len(calls) == recorded and loss == pytest.approx(plain_gradients(plain, *batch), abs=1e-6)
            for p, expected in zip(model.parameters(), plain.parameters()):
                assert (p.grad is None) == (not p.requires_grad)
                if p.requires_grad:
                    torch.testing.assert_close(p.grad.cpu(), expected.grad.cpu(), rtol=0, atol=1e-6)
                    p.data -= 0.1 * p.grad
                p.grad = None
        assert [int(ids.sum()) for ids, _ in batches] == sums  # nobody else's memory is written to


@pytest.mark.parametrize("lever", ["dropout", "parts", "leash", "processes"])
def test_what_no_graph_can_hold_is_not_recorded(model_folder, lever, monkeypatch):
    monkeypatch.setattr("train.speed.step.RecordedGradients.__call__", lambda *_: pytest.fail("recorded"))
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: lever == "processes")
    with Pretended():
        model = load_pretrained(model_folder, dropout=0.1 * (lever == "dropout")).to("cuda")
        base = load_pretrained(model_folder).to("cuda")
        gradients = fast_gradients(torch.float32, 2 if lever == "parts" else None, base, 0.5 * (lever == "leash"))
        gradients(model, *(ids.to("cuda") for ids in sample_batch(TOKENS, 3, 9, 0, 0)))


# Launches


class Launches(TorchDispatchMode):
    """Inside: counts the operations for which a GPU starts at least one kernel."""

    NONE = ("view", "empty", "promote_types", "squeeze", "dropout")  # they start none; dropout does if p is above 0

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        self.count += not (operation.is_view or any(word in name for word in self.NONE))
        return operation(*args, **(kwargs or {}))


@pytest.fixture
def gpt2(monkeypatch):
    """GPT-2 124M on tensors without memory, for which PyTorch's Python takes every branch that it takes on a GPU."""
    flash = torch.ops.aten._scaled_dot_product_flash_attention  # on a GPU `fused_attention` is this, in one kernel
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, **_: flash(q, k, v, 0.0, True)[0])
    monkeypatch.setattr("torch.autocast", lambda *_, **__: nullcontext())  # it knows no such device
    monkeypatch.setattr("torch.nn.utils.clip_grad._has_foreach_support", lambda *_: True)
    return empty_model(GPT2Config(), fused_attention)


def test_the_launches_of_a_step(gpt2):
    """All of them, as where no graph can be recorded. One launch here may be several, in which a GPU visits the tensors
    of a list: some ten each of the gradient's length and of the optimizer."""
    batch = torch.zeros(2, 16, 256, dtype=torch.long, device="meta")
    optimizer = FusedAdamW(gpt2.parameters(), 1e-4)
    with Launches() as forward_and_backward:
        bfloat16_loss(gpt2, *batch).backward()
    with Launches() as others:
        get_total_norm([p.grad for p in gpt2.parameters()])
        optimizer.step()
    assert forward_and_backward.count + others.count <= 700


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_launches_of_a_token(gpt2, dtype):
    copy = cast_copy(gpt2, dtype)
    with torch.no_grad():  # in inference mode an operation does not tell what it is made of
        cache = KeyValueCache(copy, 256, 100)
        tokens, uniform = torch.zeros(256, 1, dtype=torch.long, device="meta"), torch.zeros(256, device="meta")
        cache.read(copy, tokens)
        with Launches() as seen:
            sample_token(cache.read(copy, tokens), uniform, top_k=50)
    assert seen.count <= 150


def test_the_vocabulary_is_padded_on_a_gpu_alone():
    head = torch.zeros(50257, 4)
    assert padded_head(head.to("meta"), torch.bfloat16).shape == (50304, 4)
    assert padded_head(head, torch.bfloat16).shape == (50257, 4)


@pytest.mark.parametrize(
    "main, flags",
    [
        *((door.main, ("--model", "nowhere")) for door in (train_command, sweep, find_command, verify_command)),
        *((door.main, ("nowhere",)) for door in (evaluate_command, answer_command)),
        (pretrain_command.main, ("--corpus", "nowhere")),
        (experiment, None),
    ],
)
def test_every_door_multiplies_float32_alike(refused, monkeypatch, main, flags):
    """TF32 on CUDA, or `evaluate` prints another ratio than the run. A wrong path ends each with its machine open."""
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
    Machine("cpu")
    assert not torch.backends.cuda.matmul.allow_tf32
    with Pretended():
        if flags:
            refused(main, *flags, "--device", "cuda")
        else:
            with pytest.raises(ValueError):
                main(model="nowhere", device="cuda")
    assert torch.backends.cuda.matmul.allow_tf32
