"""The settings of a pretraining. Only light modules are imported, see data/flags.py."""

from dataclasses import dataclass

from data.flags import positive_float, positive_int, seed, share
from data.settings import setting


@dataclass(frozen=True)
class Recipe:
    """Everything but the corpus that changes the result."""

    vocab_size: int = setting(4096, "tokens, the 256 bytes included", positive_int)
    n_layer: int = setting(4, "blocks", positive_int)
    n_head: int = setting(4, "attention heads in a block", positive_int)
    n_embd: int = setting(256, "width of the model, C", positive_int)
    block_size: int = setting(256, "context in tokens, also the length T of every window", positive_int)
    batch_size: int = setting(16, "windows in a batch, B", positive_int)
    steps: int = setting(10_000, "optimizer steps", positive_int)
    lr: float = setting(2e-3, "peak learning rate", positive_float)
    warmup: int = setting(200, "steps until the peak", positive_int)
    weight_decay: float = setting(0.1, "AdamW's decoupled weight decay, on matrices only", share)
    clip: float = setting(1.0, "largest norm of the gradient; a longer one is scaled down", positive_float)
    held_out: int = setting(12, "whole texts to hold out", positive_int)
    seed: int = setting(0, "random seed of the weights, the held-out texts and the batches", seed)
    float32: bool = setting(False, "matrix products in float32 (default: bfloat16)")

    def __post_init__(self):
        if self.n_embd % self.n_head:
            raise ValueError(f"--n-embd {self.n_embd} is not a multiple of --n-head {self.n_head}; change one")
        if self.warmup >= self.steps:
            raise ValueError(f"--warmup {self.warmup} must be below --steps {self.steps}")
