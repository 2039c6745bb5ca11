"""Is it varied and fluent? A model that was tuned too hard tends to say the same again and again.

Shape legend: S texts, N tokens in each, B texts computed together, T inputs of each, V vocabulary.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluate.measures.forgetting import groups_of, logits_of
from model.device import exact_on
from model.sampling import evaluating


def different_share(rows: np.ndarray) -> float:
    """How many different `rows` (R, columns) there are, as a share of R; 1 if there are none."""
    return len(np.unique(rows, axis=0)) / len(rows) if len(rows) else 1.0


def runs_of(texts: Tensor, n: int) -> np.ndarray:
    """Every run of n tokens within one of `texts` (S, N): (S, N - n + 1, n), empty if the texts are shorter."""
    texts = np.asarray(texts)
    starts = np.arange(texts.shape[1] - n + 1)
    return texts[:, starts[:, None] + np.arange(n)]


def distinct(texts: Tensor, n: int) -> float:
    """distinct-n: different n-grams in all of `texts` (S, N) together, as a share of all their n-grams.

    Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models". The more and
    the longer the texts, the lower it comes out, whoever wrote them: compare only texts of equal number and length.
    """
    return different_share(runs_of(texts, n).reshape(-1, n))


def repeated(texts: Tensor, n: int = 4) -> float:
    """The share of the n-grams of a text that occurred earlier in the same text, mean over `texts` (S, N).

    seq-rep-n of Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training".
    """
    runs = runs_of(texts, n)  # (S, N - n + 1, n)
    return float(np.mean([1 - different_share(of_one_text) for of_one_text in runs]))


def perplexity_under(model: Callable[[Tensor], Tensor], texts: Tensor, batch_size: int = 8) -> float:
    """exp of the mean loss of `model` on all tokens of `texts` (S, N >= 2) but the first of each.

    As if so many tokens were equally likely at every step. Under a model that has not seen the book it tells
    whether a text is fluent; but repetition is easy to predict as well: read it together with `repeated`.

    Args:
        model: maps token ids (B, T) to logits (B, T, V).
        texts: on the model's device. What is beyond the model's context is not read.
        batch_size: texts computed together, at most; fewer if they are long (see ROWS in forgetting.py).

    Raises:
        ValueError: the texts have no second token.
    """
    total = tokens = 0
    for group in groups_of(texts, model, batch_size):  # (B, T + 1)
        with evaluating(model):
            logits = logits_of(model, group[:, :-1])  # (B, T, V)
        loss = F.cross_entropy(logits.flatten(0, 1), group[:, 1:].flatten(), reduction="sum")
        total += loss.to(exact_on(loss.device)).double()
        tokens += group[:, 1:].numel()
    return torch.exp(total / tokens).item()
