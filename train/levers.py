"""Levers: what one can do about a learning rate that is too large.

The loop of loop.py, AdamW and GPT2 have no option for them. The learning rate of a step is assigned to the optimizer
from outside, the optimizer gets only the parameters that are trained, and the loop takes other gradients:

    parameters = trained_parameters(model, "mlp")
    optimizer = AdamW(parameters, lr=3e-4)
    gradients = clipped(leashed(base, 2.0), parameters, 1.0)
    for loss in scheduled(finetune(model, tokens, optimizer, settings, gradients), optimizer, 3e-4, settings):

`python -m train --schedule linear --warmup 20 --train mlp --leash 2 --clip 1` does the same with faster gradients.
"""

import math
import re
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from data.settings import Training
from model.gpt2 import GPT2
from train.adamw import AdamW
from train.loop import Gradients


def rate_of_step(step: int, peak: float, settings: Training) -> float:
    """The learning rate of `step`, which counts from 0 to samples - 1.

    During the warm-up it rises in equal parts (Goyal et al. 2017):  peak (step + 1) / warmup.
    Afterwards, with  done = (step - warmup) / (samples - warmup):
        constant  peak
        linear    peak (1 - done)
        cosine    peak (1 + cos(pi done)) / 2   (Loshchilov and Hutter 2017, "SGDR")
    A decay would be 0 in the step after the last.
    """
    if step < settings.warmup:
        return peak * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.samples - settings.warmup)
    shares = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return peak * shares[settings.schedule]


def scheduled(losses: Iterator[float], optimizer: AdamW, peak: float, settings: Training) -> Iterator[float]:
    """Yield the `losses` of `finetune`, and give `optimizer` the learning rate of each step before the step.

    The rate is a function of the step's number, so an interrupted run continues with the right one.
    """
    optimizer.lr = rate_of_step(optimizer.steps, peak, settings)
    for loss in losses:
        optimizer.lr = rate_of_step(optimizer.steps, peak, settings)
        yield loss


def trained_parameters(model: GPT2, part: str) -> list[Tensor]:
    """Freeze all of `model` but `part`; returns what is trained, for the optimizer.

    A frozen parameter has no gradient, no moments and no weight decay, and keeps every bit.

    Args:
        part: "all"; "attention" or "mlp", those of every block without their norms; "norms", every LayerNorm;
            "last:N", the last N blocks and ln_f. The embeddings belong to "all" alone. The table wte is the embedding
            and the head at once (tied): trained as the head of the last blocks, it would change what the first reads.
    """
    layers, last = len(model.h), int(part.partition(":")[2] or 0)
    if last > layers:
        raise ValueError(f"--train {part}: the model has {layers} blocks; use last:{layers} or less")
    blocks = "|".join(map(str, range(layers - last, layers)))
    pattern = {"all": "", "attention": "attn", "mlp": "mlp", "norms": "ln_"}.get(part, rf"^h\.({blocks})\.|^ln_f")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(re.search(pattern, name) is not None)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def leashed(base: GPT2, beta: float) -> Gradients:
    """A replacement for `plain_gradients`: the gradients of  loss + beta KL(base || tuned).

    KL is the mean over the same B x T places of  sum over w of base(w) log(base(w) / tuned(w)): what the base model
    would say must stay likely. This is the KL penalty of RLHF (Ziegler et al. 2019, "Fine-Tuning Language Models from
    Human Preferences", in the other direction), or distillation from the base model (Hinton et al. 2015).
    Only the next-token loss is returned, so that runs with and without a leash can be compared.

    With logits z, softmax q of the tuned model and p of the base model, the gradient at one place is
        d / dz = (1 + beta) q - onehot(target) - beta p.
    `fast_gradients` of train/speed uses this form: the base model's pass takes a third of a step, and only the logits
    of some rows exist at a time.
    """

    def gradients(model: GPT2, inputs: Tensor, targets: Tensor) -> float:
        with torch.no_grad():
            log_p = base(inputs).log_softmax(-1)  # (B, T, V)
        logits = model(inputs)  # (B, T, V)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        kl = (log_p.exp() * (log_p - logits.log_softmax(-1))).sum(-1).mean()
        (loss + beta * kl).backward()
        return loss.item()

    return gradients


def clipped(gradients: Gradients, parameters: list[Tensor], norm: float) -> Gradients:
    """`gradients`, all scaled down by one factor where their total norm would exceed `norm` (Pascanu et al. 2013).

    The norm is that of all parameters together: clipped one by one, they would point in another direction.
    """

    def scaled(model: GPT2, inputs: Tensor, targets: Tensor) -> float:
        loss = gradients(model, inputs, targets)
        length = get_total_norm([p.grad for p in parameters])
        if length.isfinite():  # else the loop says that the run diverged
            clip_grads_with_norm_(parameters, norm, length)
        return loss

    return scaled
