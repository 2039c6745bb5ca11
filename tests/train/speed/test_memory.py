"""What a batch takes at the least: never more than it does take, and refused before anything is written."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

import train.__main__ as train_command
from model.gpt2 import GPT2, GPT2Config
from train import sweep
from train.lasting import run
from train.settings import Training
from train.speed.memory import least_bytes, memory_bytes
from train.speed.step import loss_in


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_batch_is_refused_that_would_fit(dtype):
    """Held against what autograd does keep of a batch, weights left out; in bfloat16 it is close."""
    config = GPT2Config(vocab_size=301, block_size=64, n_layer=3, n_head=4, n_embd=64)
    model, ids, kept = GPT2(config).train(), torch.randint(301, (8, 65)), {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.nbytes() >= 8 * 64 * 64 * 2 and storage.nbytes() % (8 * 64) == 0:  # of the batch: no weight's size
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_in(dtype)(model, ids[:, :-1], ids[:, 1:])
    taken = sum(kept.values()) + ids.nbytes
    assert least_bytes(Training(batch_size=8, seq_len=64), config) <= taken
    if dtype == torch.bfloat16:
        assert loss.isfinite() and taken < 2 * least_bytes(Training(batch_size=8, seq_len=64), config)


def test_parts_of_a_batch_take_less():
    config = GPT2Config(vocab_size=300, block_size=64, n_layer=3, n_head=4, n_embd=64)
    whole, ids = 8 * 64 * 3 * 14 * 64 * 2, 8 * 8 * 65
    assert least_bytes(Training(batch_size=8, seq_len=64), config) == ids + whole
    assert least_bytes(Training(batch_size=8, seq_len=64, micro_batch=2), config) == ids + whole / 4
    assert least_bytes(Training(batch_size=8, seq_len=64), config, processes=4) == ids + whole / 4
    assert memory_bytes() is None or 10**8 < memory_bytes() < 10**15


def test_a_batch_that_cannot_fit_is_refused_before_anything_is_written(
    command, model_folder, text_file, tmp_path, monkeypatch
):
    monkeypatch.setattr(run, "memory_bytes", lambda: 24 * 10**9)
    flags = ["--model", model_folder, "--text", text_file, "--seq-len", 16, "--out", tmp_path / "out"]
    for main in (train_command.main, sweep.main):
        code, _, err = command(main, *flags, "--batch-size", 10**8, "--micro-batch", 10**8)
        assert code == 2 and err == (
            "error: a batch takes 1,089 GB at the least, this machine has 24 GB; use a smaller --micro-batch or "
            "--batch-size\n"
        )
        assert command(main, *flags, "--batch-size", 10**40)[0] == 2
    assert not (tmp_path / "out").exists()


def test_a_run_without_memory_ends_in_one_line(command, model_folder, text_file, tmp_path, monkeypatch):
    flags = ["--model", model_folder, "--text", text_file, "--seq-len", 16, "--batch-size", 2, "--samples", 2]
    flags += ["--eval-sequences", 2, "--eval-tokens", 2]
    monkeypatch.setattr("train.parallel.team.fast_gradients", lambda *_: lambda *_: torch.empty(2**50))
    for main in (train_command.main, sweep.main):
        code, _, err = command(main, *flags, "--out", tmp_path / main.__module__)
        assert code == 2 and err.startswith("error: out of memory: ") and err.count("\n") == 1, err
        assert "use a smaller --micro-batch or --batch-size or --eval-sequences" in err
