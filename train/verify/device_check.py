"""Does this device compute the same model as the CPU? One forward pass on each, before the first training step.

A device can compute wrong logits without an error; Apple's GPU has done so. The CPU in float32 is the reference.

Shape legend: B sequences, T tokens, V vocabulary, C width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from data.generators import DEVICE_CHECK, generator
from model.gpt2 import GPT2
from model.speed.centred import centred_head
from model.speed.empty import empty_model

SEQUENCES, LENGTH = 2, 128  # B, and T at most: 64 GFLOP on the CPU for GPT-2 124M

# Relative errors of the logits that rounding explains. float32 on a GPU is TF32 here: the factors of a product have 11
# significant bits, a relative step of 2^-10. bfloat16 has 8, a step of 2^-7, between the products too. The rounding
# errors of all layers add up like a random walk. Seen on the CPU (TF32 imitated, truncated and rounded), with Lilliput
# and with random models of 12 and 48 layers: 0.4e-3 to 3e-3 and 6e-3 to 2e-2. The bounds are five and six steps.
NOISE = {torch.float32: 5e-3, torch.bfloat16: 5e-2}


def compare_with_cpu(model: GPT2, device: torch.device, dtype: torch.dtype, seed: int = 0) -> None:
    """Raise a ValueError if logits on `device` in `dtype` differ too much from the CPU's in float32, on random tokens.

    It finds whatever changes the logits by more than `NOISE`: a missing layer, other weights, a wrong mask, corrupted
    memory, NaN; without one layer of 48 they change by 15 %. It cannot find what is as small as rounding, such as the
    erf-GELU instead of the tanh one (0.01 to 0.05 %), weights that were wrong before they were copied to `device`, or a
    fault of the backward pass or the optimizer: `python -m train.verify` has ten whole steps for those.

    Args:
        model: float32, on any device; neither changed nor moved.
        dtype: of weights and activations on `device`: float32 or bfloat16.
        seed: of the random tokens.
    """
    if device.type == "cpu":
        return
    config = model.config
    tokens = generator(DEVICE_CHECK, seed).integers(config.vocab_size, size=(SEQUENCES, min(LENGTH, config.block_size)))
    tokens = torch.from_numpy(tokens)  # (B, T)
    with torch.no_grad():
        reference = logits_on(model, torch.device("cpu"), torch.float32)(tokens)  # (B, T, V)
        found = logits_on(model, device, dtype)(tokens)  # (B, T, V)
    error = relative_error(found, reference)
    if not error <= NOISE[dtype]:  # true for NaN
        raise ValueError(
            f"{device} in {str(dtype).removeprefix('torch.')} does not compute what the CPU does: the logits differ by "
            f"{100 * error:.2g} %, rounding explains {100 * NOISE[dtype]:g} %; use --device cpu"
        )


def logits_on(model: GPT2, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The forward pass of a copy of `model` in `dtype` on `device`: token ids (B, T) to logits (B, T, V)."""
    copy = empty_model(model.config, model.attend)
    copy.load_state_dict({name: p.detach().to(device, dtype) for name, p in model.named_parameters()}, assign=True)
    head = centred_head(model.wte.weight.detach().to(device), dtype)  # (V, C)
    return lambda tokens: F.linear(copy.transform(copy.embed(tokens.to(device))), head)


def relative_error(found: Tensor, reference: Tensor) -> float:
    """|found - reference| / |reference| over the vocabulary, mean over all positions; 0.01 is one per cent.

    Both are (B, T, V). The mean over the vocabulary is subtracted first, since softmax ignores it. The error is taken
    at each position before the mean: at GPT-2's first position numbers of thousands cancel in the last layer, and its
    rounding error would hide those of all other positions.
    """
    found, reference = (z.float().cpu() for z in (found, reference))
    found, reference = (z - z.mean(-1, keepdim=True) for z in (found, reference))
    return ((found - reference).norm(dim=-1) / reference.norm(dim=-1)).mean().item()
