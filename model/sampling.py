"""Sampling: one token after another is drawn from the model's predictions, with a key-value cache.

Shape legend: B sequences, T tokens so far, V vocabulary, H heads, D head width (see gpt2.py).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.device import exact_on
from model.gpt2 import GPT2
from model.speed.centred import centred_head
from model.speed.empty import empty_model
from model.speed.packed import PackedLinear, can_pack, pack

# Where the attention of one token is two products: on a CPU they take half the time of PyTorch's kernel, which is made
# for many tokens. The kernel's scores are float32, whatever the keys are.
TWO_PRODUCTS = ("cpu",)


def sample_token(logits: Tensor, uniform: Tensor, *, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
    """Draw one token per row from softmax(logits / temperature), truncated to the `top_k` most likely.

    A temperature of 0 takes the most likely token (greedy).

    Args:
        logits: (B, V).
        uniform: (B,) random numbers from [0, 1), one per row: the position of the draw in the cumulative
            distribution over the tokens in the order of their ids.

    Returns:
        (B,) token ids.
    """
    if temperature == 0:
        return logits.argmax(-1)  # (B,)
    ids = None
    if top_k is not None and top_k < logits.shape[-1]:
        logits, ids = most_likely(logits, top_k)  # (B, K) each
    # float64: in float32 the error of a sum over 50,257 terms is about the probability of a rare token.
    cumulative = (logits.double() / temperature).softmax(-1).cumsum(-1)  # (B, V) or (B, K)
    # right=True skips tokens of probability zero, where the sum does not grow.
    place = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)  # (B, 1)
    return (place if ids is None else ids.gather(1, place))[:, 0]  # (B,)


def most_likely(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return logits and ids (B, K), ordered by id, of the k most likely tokens in each row of `logits` (B, V).

    Tokens that tie with the k-th are kept, so that no tie is broken by chance. K is k plus some room for ties,
    or V; unused room has a logit of -inf.
    """
    K = min(k + 16, logits.shape[-1])
    values, ids = logits.topk(K)
    kth = values[:, k - 1 : k]  # (B, 1)
    # If there may be more ties than room, all tokens are taken. On a GPU always: the check would wait, at each token,
    # until the GPU has finished its work.
    if logits.device.type != "cpu" or (values[:, -1:] == kth).any():
        values, ids = logits, torch.arange(logits.shape[-1], device=logits.device).expand_as(logits)
    else:
        ids, order = ids.sort(-1)
        values = values.gather(1, order)
    return values.masked_fill(values < kth, -torch.inf), ids


def uniform_numbers(seed: int, first_row: int, rows: int, columns: int) -> Tensor:
    """Return (rows, columns) random numbers from [0, 1). Each row depends only on `seed` and its own number."""
    # 2: each purpose has its own generator; data/generators.py has the list.
    generators = (np.random.default_rng([2, seed, row]) for row in range(first_row, first_row + rows))
    return torch.from_numpy(np.stack([generator.random(columns) for generator in generators]))


def cast_copy(model: GPT2, dtype: torch.dtype) -> GPT2:
    """Return a copy of `model` for sampling with its weights in `dtype`, or `model` itself if it has that dtype.

    Sampling reads every weight once per token, and half as many bytes are read in half the time.
    """
    if model.wte.weight.dtype == dtype:
        return model
    copy = empty_model(model.config, model.attend)
    copy.load_state_dict({name: p.detach().to(dtype) for name, p in model.named_parameters()}, assign=True)
    return copy


class KeyValueCache:
    """The keys and values that every layer has computed so far, so that no token is read twice.

    Without it, token number T needs a pass over all T tokens; with it, a pass over one. It holds
    2 x n_layer x B x T x C numbers: 74 MB for ten sequences of 100 tokens of GPT-2 124M.
    Create it in eval mode: it keeps the layers as they are then, packed where possible.
    """

    def __init__(self, model: GPT2, batch_size: int, length: int):
        config, weight = model.config, model.wte.weight
        shape = (config.n_layer, 2 * batch_size, config.n_head, length, config.n_embd // config.n_head)
        # Two products need float32: scores rounded to bfloat16 would double the rounding error of the logits.
        exact = torch.promote_types(weight.dtype, torch.float32)
        dtype = exact if weight.device.type in TWO_PRODUCTS else weight.dtype
        self.store = torch.empty(shape, dtype=dtype, device=weight.device)
        self.filled = 0  # tokens read
        head = centred_head(weight, weight.dtype)  # (V, C)
        if can_pack(weight):
            self.blocks, self.head = pack(model.h, batch_size), PackedLinear(head, None, batch_size)
        else:
            self.blocks, self.head = model.h, partial(F.linear, weight=head)

    def read(self, model: GPT2, tokens: Tensor) -> Tensor:
        """Read the next `tokens` (B, T), any number at first and then one; return the logits (B, V) after the last."""
        start, self.filled = self.filled, self.filled + tokens.shape[1]
        x = model.embed(tokens, start)  # (B, T, C)
        for block, store in zip(self.blocks, self.store):
            x = block(x, partial(self.attend, store, start))  # (B, T, C)
        return self.head(model.ln_f(x[:, -1]))  # (B, V); in bfloat16 minus one number per row, see centred.py

    def attend(self, store: Tensor, start: int, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        """Store `k` and `v`, and return the attention (B, H, T, D) of the tokens from `start` on to all tokens so far.

        `dropout` is 0, since the model is in eval mode.
        """
        torch.cat((k, v), out=store[:, :, start : self.filled])  # (2 B, H, T, D)
        if start == 0:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        keys, values = store[:, :, : self.filled].chunk(2)  # (B, H, filled, D) each
        if q.device.type not in TWO_PRODUCTS:
            return F.scaled_dot_product_attention(q, keys, values)  # one token, which sees all others
        scores = q.to(store.dtype) @ keys.mT / math.sqrt(q.shape[-1])  # (B, H, 1, filled)
        return (scores.softmax(-1) @ values).to(q.dtype)


@contextmanager
def eval_mode(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Switch dropout off inside; afterwards the model is in the mode it was in."""
    was_training = getattr(model, "training", False)
    if was_training:
        model.eval()
    try:
        yield
    finally:
        if was_training:
            model.train()


@contextmanager
def evaluating(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Switch dropout and gradients off inside; afterwards the model is in the mode it was in.

    A tensor created inside (torch's inference mode) can be read anywhere. Outside it cannot be changed in place or
    take part in gradients; a copy of it can.
    """
    with eval_mode(model), torch.inference_mode():
        yield


def generate(
    model: Callable[[Tensor], Tensor],
    tokens: Tensor,
    new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    first_row: int = 0,
    banned: Sequence[int] = (),
    use_cache: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Continue every row of `tokens` by `new_tokens` tokens, one step at a time.

    The random numbers of a row depend only on `seed` and the row's number: up to rounding, a batch gives the same
    rows as its parts would, and all models get the same random numbers.

    Args:
        model: a `GPT2`, or anything else that maps token ids (B, T) to logits (B, T, V).
        tokens: (B, T) prompts of equal length, T >= 1. If a row is longer than the model's context, the
            model sees its last `block_size` tokens.
        temperature: 1 samples from the model's distribution as it is, 0 takes the most likely token.
        top_k: sample among the k most likely tokens and those that tie with the k-th; None: among all.
        first_row: number of the first row, for a batch that is part of a larger one.
        banned: token ids that are never drawn.
        use_cache: False recomputes everything for each token, which is always done for a model that is not a `GPT2`.

    Yields:
        for each new token, the drawn token ids (B,) and the logits (B, V) from which they were drawn, in the
        model's dtype, with banned tokens at -inf.
    """
    B, T = tokens.shape
    block_size = model.config.block_size if isinstance(model, GPT2) else None
    exact = exact_on(tokens.device)
    uniform = uniform_numbers(seed, first_row, B, new_tokens).to(exact)
    banned = torch.tensor(banned, dtype=torch.long, device=tokens.device)
    # The last token drawn is never read, hence - 1. Positions are learned and absolute: when the window
    # slides, every token changes its position and the cached keys are no longer valid.
    cached = use_cache and block_size is not None and T + new_tokens - 1 <= block_size
    with eval_mode(model):
        cache = KeyValueCache(model, B, T + new_tokens - 1) if cached else None
        for i in range(new_tokens):
            with torch.inference_mode():  # left before each `yield`: the caller may need gradients
                if cache is not None:
                    logits = cache.read(model, tokens[:, cache.filled :])  # (B, V)
                else:
                    window = tokens if block_size is None else tokens[:, -block_size:]
                    logits = model(window)[:, -1].clone()  # (B, V), not the model's own memory
                logits.index_fill_(1, banned, -torch.inf)
                drawn = sample_token(logits.to(exact), uniform[:, i], temperature=temperature, top_k=top_k)  # (B,)
                drawn = drawn.to(tokens.device)
                tokens = torch.cat([tokens, drawn[:, None]], dim=1)
            yield drawn, logits


def complete(model: Callable[[Tensor], Tensor], tokens: Tensor, new_tokens: int, **settings) -> Tensor:
    """`tokens` (B, T) and the tokens that `generate` draws after them, with its `settings`: (B, T + new_tokens)."""
    drawn = [column[:, None] for column, _ in generate(model, tokens, new_tokens, **settings)]  # (B, 1) each
    return torch.cat([tokens, *drawn], dim=1)
