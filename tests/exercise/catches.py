"""A test to write: it passes on a healthy `data.batches.sample_batch`, and notices each fault that is put into it."""

from collections.abc import Callable

import torch
from torch import Tensor


def check_batches(sample_batch: Callable[[Tensor, int, int, int, int], tuple[Tensor, Tensor]]) -> None:
    """Assert what must hold for `sample_batch(tokens, batch_size, seq_len, seed, step)`, whatever numbers it draws.

    The docstring of data/batches.py is the contract: inputs and targets are (B, T) int64 each; a target is the token
    after its input; every window of the text can come; seed and step together decide the batch, and nothing else does.

    Raises:
        AssertionError: `sample_batch` has a fault.
    """
    tokens = torch.arange(10, dtype=torch.int32)  # each token is its own position: 6 windows of 4 + 1 tokens
    batches = {(seed, step): sample_batch(tokens, 16, 4, seed, step) for seed in range(3) for step in range(10)}
    for inputs, targets in batches.values():
        assert inputs.dtype == targets.dtype == torch.int64
        assert inputs.shape == targets.shape == (16, 4)
        assert torch.equal(inputs, inputs[:, :1] + torch.arange(4)), "inputs are no piece of the text"
        assert torch.equal(targets, inputs + 1)
    first_tokens = torch.cat([inputs[:, 0] for inputs, _ in batches.values()])  # 480 draws: each of 6 comes
    assert set(first_tokens.tolist()) == set(range(6))
    assert len({str(inputs.tolist()) for inputs, _ in batches.values()}) == len(batches), "two batches are the same"
    assert torch.equal(sample_batch(tokens, 16, 4, 2, 5)[0], batches[2, 5][0]), "the same seed and step, another batch"
