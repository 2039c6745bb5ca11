"""Does a device compute what the CPU does? Checks that need no weights from outside. Never tried on a GPU."""

from collections.abc import Iterator, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from data.generators import VERIFYING, generator
from data.settings import Training
from evaluate.loss import text_loss
from evaluate.measures.forgetting import divergence_from_base
from model.device import exact_on
from model.gpt2 import GPT2, GPT2Config
from model.pretrained import load_pretrained
from model.sampling import complete, sample_token
from model.speed.attention import fused_attention
from train.adamw import AdamW
from train.loop import Gradients, finetune, plain_gradients
from train.speed.adamw import FusedAdamW
from train.speed.step import fast_gradients
from train.verify.device_check import NOISE, logits_on, relative_error
from train.verify.published import Check

CPU = torch.device("cpu")
EXACT, FAST = torch.float32, torch.bfloat16

# Relative errors of all gradients together that rounding explains; twice as much in one parameter, a tenth in the loss.
# Seen on the CPU with both models: TF32 imitated, truncated and rounded, 0.7e-3 to 4e-3, in one parameter 8e-3, in the
# loss 3e-4; bfloat16 (AVX512-BF16) 0.8e-2 to 1.2e-2, 2.3e-2 and 3e-4.
GRADIENT_NOISE = {EXACT: 1e-2, FAST: 5e-2}


def models() -> tuple[GPT2, GPT2]:
    """Lilliput, which is shipped, and random weights of GPT-2's sizes; both on the CPU."""
    torch.manual_seed(0)
    return load_pretrained("lilliput"), GPT2(GPT2Config(), fused_attention).eval()


def close(title: str, error: float, bound: float) -> Check:
    return Check(title, f"at most {bound:g}", f"{error:.1e}", error <= bound)  # false for NaN


def distance(found: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """|found - reference| / |reference| over all numbers of two lists of tensors."""
    found, reference = (
        torch.cat([t.detach().cpu().flatten() for t in tensors]).double() for tensors in (found, reference)
    )
    return ((found - reference).norm() / reference.norm()).item()


def against_cpu(device: torch.device) -> Iterator[Check]:
    """Yield one check after the other, each as soon as it is done."""
    lilliput, random = models()
    rng = generator(VERIFYING, 0)
    yield from forward_and_backward("Lilliput", lilliput, device, rng)
    yield from forward_and_backward("random weights of 124M", random, device, rng)
    yield from updates_and_draws(device, rng)
    yield from texts_and_measures(lilliput, device, rng)
    row, twice = torch.from_numpy(rng.integers(random.config.vocab_size, size=1000)), []
    for _ in range(2):
        there = deepcopy(random).to(device)
        settings = Training(samples=5, batch_size=4, seq_len=min(64, random.config.block_size))
        list(finetune(there, row, FusedAdamW(there.parameters(), lr=1e-4), settings, fast_gradients(FAST)))
        twice.append(list(there.parameters()))
    error = distance(*twice)
    found = f"weights {error:.1e} apart" if error else "bit for bit the same"
    yield Check("five training steps, twice", "either: it is only reported", found, True)


def forward_and_backward(name: str, model: GPT2, device: torch.device, rng: np.random.Generator) -> Iterator[Check]:
    batches = torch.from_numpy(rng.integers(model.config.vocab_size, size=(2, 2, 4, min(64, model.config.block_size))))

    def gradients_of(way: Gradients, place: torch.device, *batches: Tensor) -> dict[str, Tensor]:
        """Of the last batch. On CUDA the first is recorded, and the next one has to take its place."""
        there = deepcopy(model).to(place)
        for inputs, targets in batches:  # (B, T) each
            there.zero_grad()
            loss = way(there, inputs.to(place), targets.to(place))
        return {"the loss": torch.tensor([loss])} | {part: p.grad for part, p in there.named_parameters()}

    with torch.no_grad():
        reference = logits_on(model, CPU, EXACT)(batches[0, 0])  # (B, T, V)
        for dtype, bound in NOISE.items():
            error = relative_error(logits_on(model, device, dtype)(batches[0, 0]), reference)
            yield close(f"logits of {name} in {dtype}", error, bound)
    reference = gradients_of(plain_gradients, CPU, batches[1])
    ways = {"plain": (plain_gradients, EXACT), "fast": (fast_gradients(EXACT), EXACT)}
    ways |= {"fast, bfloat16": (fast_gradients(FAST), FAST), "bfloat16 in parts": (fast_gradients(FAST, 1), FAST)}
    for title, (way, dtype) in ways.items():
        found, bound = gradients_of(way, device, *batches), GRADIENT_NOISE[dtype]
        each = {part: distance([found[part]], [reference[part]]) for part in found}
        yield close(f"gradients of {name}, {title}: the loss", each.pop("the loss"), bound / 10)
        worst = max(each, key=each.get)
        yield close(f"gradients of {name}, {title}: {worst}, the worst", each[worst], 2 * bound)
        total = distance([found[part] for part in each], [reference[part] for part in each])
        yield close(f"gradients of {name}, {title}: all", total, bound)


def updates_and_draws(device: torch.device, rng: np.random.Generator) -> Iterator[Check]:
    sizes, moved = torch.logspace(-10, 0, 64 * 48).view(64, 48), []  # of gradients: the smallest are below epsilon
    given = [[torch.from_numpy(rng.normal(size=s.shape)).float() * s for s in (sizes, sizes[:, 0])] for _ in range(9)]
    for kind, place, dtype in ((AdamW, CPU, torch.float64), (AdamW, device, EXACT), (FusedAdamW, device, EXACT)):
        parameters = [start.to(place, dtype, copy=True) for start in given[0]]
        optimizer = kind(parameters, lr=1e-2, weight_decay=0.1, matrices_only=True)
        for grads in given[1:]:
            for p, grad in zip(parameters, grads):
                p.grad = grad.to(place, dtype)
            optimizer.step()
        moved.append([p.cpu().double() - start for p, start in zip(parameters, given[0])])
    # Seen on the CPU: 7e-7.
    yield close("8 steps of AdamW", distance(moved[1], moved[0]), 1e-5)
    yield close("8 steps of FusedAdamW", distance(moved[2], moved[0]), 1e-5)

    logits, uniform = torch.from_numpy(rng.normal(size=(256, 50257))), torch.from_numpy(rng.random(256))
    exact, logits = exact_on(device), (30 * logits).round() / 10  # ten to a unit: many tie with the 50th
    for top_k in (None, 50):
        found = sample_token(logits.to(exact), uniform.to(exact), top_k=top_k).cpu()
        wrong = (found != sample_token(logits, uniform, top_k=top_k)).sum().item()
        # Two sums in float64 differ by 1e-14: the numbers fall between two of them once in a million times.
        yield close(f"draws, top-k {top_k}: rows of 256 that differ", wrong, 0)


def texts_and_measures(model: GPT2, device: torch.device, rng: np.random.Generator) -> Iterator[Check]:
    row, T, measured = torch.from_numpy(rng.integers(model.config.vocab_size, size=1000)), model.config.block_size, []
    tuned = deepcopy(model)
    with torch.no_grad():
        tuned.ln_f.bias += 0.1
    for place in (CPU, device):
        base, other, ids = (deepcopy(it).to(place) for it in (model, tuned, row))
        measured.append((text_loss(base, ids, T), divergence_from_base(base, other, ids.view(-1, 20))[0].mean()))
    for title, reference, found, bound in zip(("loss on a text", "divergence"), *measured, (1e-3, 1e-2)):
        yield close(title, abs(found / reference - 1), bound)  # seen with TF32: 3e-5, 1e-3
    text = complete(base, ids[:8, None], min(64, T - 1), temperature=0).cpu()  # (B, T)
    with torch.no_grad():
        logits = model(text[:, :-1])  # (B, T - 1, V)
    # A near tie may turn a text. It goes on from another token, so each token is judged by the text before it.
    behind = (logits.amax(-1) - logits.gather(2, text[:, 1:, None])[..., 0]) / logits.std(-1)
    yield close("greedy texts: standard deviations below the CPU's best token", behind.max().item(), 10 * NOISE[EXACT])
