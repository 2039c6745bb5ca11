"""All that is measured about a model, put together: what stands under `before` and `after` in a result file.

Each measure is a function of its own, in ratio.py, style.py, copying.py, forgetting.py, variety.py and
loss.py; here they meet the book and the base model.

Shape legend: S texts, N tokens in each, the start token not counted, V vocabulary.
"""

import codecs
import dataclasses
import math
import time
from functools import partial

import numpy as np
from torch import Tensor
from tqdm import tqdm

from evaluate.loss import text_loss
from evaluate.measures.copying import copied_runs, copied_share, extraction, longest_copied, novelty
from evaluate.measures.forgetting import divergence_from_base, logits_of
from evaluate.measures.reference import PROMPTS, SHOWN_TEMPERATURE, SHOWN_TOP_K, Reference, Written
from evaluate.measures.style import (
    divergence,
    letters_ratio,
    ratio_of_sums,
    ratio_of_sums_interval,
)
from evaluate.measures.variety import distinct, perplexity_under, repeated
from evaluate.ratio import bootstrap_interval, frequent_token_ratio, share_among
from evaluate.results import Checkpoint, Evaluation
from model.gpt2 import GPT2
from model.sampling import cast_copy, complete, evaluating

TEXTS_KEPT = 8  # of the texts written for the ratio, this many go into the result
PROMPTS_ON_THE_WAY = 2  # of the prompts, so many are continued during training too
# Of the held-out text so many tokens, two batches' worth, are read again and again during training (a tenth of Gulliver
# has 14,369). All of a long text, at 20 places, would take longer than the training. Before and after, all is read.
HELD_OUT_ON_THE_WAY = 8192
CONTEXT_SHOWN = 12  # tokens of the book to both sides of a copied run


def evaluation(reference: Reference, model: GPT2, written: Written, change: dict[str, float], title: str) -> Evaluation:
    """All measures of `model`, as a result file keeps them; this room's README.md says what each of them means.

    Args:
        written: what it wrote.
        change: its `weight_change` from the base model, 0 for that model itself.
    """
    began = time.monotonic()
    tokenizer, tokens = reference.setup.tokenizer, written.ratio.tokens
    rounded = cast_copy(model, reference.machine.dtype)
    measures = {
        "base_perplexity": lambda: perplexity_under(reference.base, tokens.to(reference.machine.device)),
        "extraction": lambda: extraction_of(reference, rounded),
        "held_out": lambda: held_out_of(reference, rounded),
        "forgetting": lambda: forgetting_of(reference, rounded),
        "weight_change": lambda: change,
        "continuations": lambda: continuations_of(reference, rounded),
    }
    found = {
        "ratio": written.ratio.ratio,
        "ratio_ci": written.ratio.ratio_ci,
        "shares": written.ratio.shares,
        "expected_ratio": float(written.masses.mean()),
        "expected_ratio_ci": bootstrap_interval(written.masses),
        "untruncated_ratio": float(written.untruncated.mean()),
        "untruncated_ratio_ci": bootstrap_interval(written.untruncated),
        "untruncated_shares": written.untruncated.tolist(),
        "texts": [tokenizer.decode(row) for row in tokens[:TEXTS_KEPT].tolist()],
    } | measures_of_texts(reference, written.texts)
    for name, measure in tqdm(measures.items(), title, unit="measure", leave=False, disable=None):
        found[name] = measure()
    return found | {"seconds": time.monotonic() - began}


def measures_of_texts(reference: Reference, texts: Tensor) -> dict:
    """The measures that are functions of `texts` (S, N) alone, whoever wrote them."""
    setup, index = reference.setup, reference.index
    frequent, book = setup.frequent, setup.training_tokens
    hits, letters = letters_ratio(texts, frequent, reference.letters)  # (S,) each
    copied = copied_share(texts, index, reference.least)  # (S,)
    bits, bits_ci = divergence(texts, book, frequent)
    _, _, length, position = longest_copied(texts, index)
    # distinct-n falls as texts are added: models and book are compared over as many.
    count = min(len(texts), len(reference.book_texts)) if reference.book_texts is not None else len(texts)
    return {
        "letters_ratio": ratio_of_sums(hits, letters),
        "letters_ratio_ci": ratio_of_sums_interval(hits, letters),
        "divergence": bits,
        "divergence_ci": bits_ci,
        "copied": float(copied.mean()),
        "copied_ci": bootstrap_interval(copied),
        "longest_copy": {
            "tokens": length,
            "passage": setup.tokenizer.decode(book[position : position + length].tolist()),
            "position": position,
        },
        "novelty": novelty(texts, index),
        "distinct": [distinct(texts[:count], n) for n in (1, 2, 3)],
        "distinct_texts": count,
        "repeated": repeated(texts),
    }


def extraction_of(reference: Reference, model: GPT2) -> dict:
    """`extraction` on the text that is trained on and on what is held out, each with its interval; None where it
    is too short."""
    setup, found = reference.setup, {}
    for name, tokens in (("training", setup.training_tokens), ("held_out", setup.held_out_tokens)):
        tokens = tokens.to(reference.machine.device)
        shares = extraction(model, tokens, seed=reference.sampling.seed, banned=setup.banned)
        found[name] = float(shares.mean()) if len(shares) else None
        found[f"{name}_ci"] = bootstrap_interval(shares) if len(shares) else None
    return found


def held_out_of(reference: Reference, model: GPT2) -> dict | None:
    """Loss (nats per token) and perplexity of the text that was held out; None where nothing was."""
    if not reference.setup.held_out:
        return None
    loss = held_out_loss(reference, model)
    # exp(709) is the largest float there is; a model that exploded may be beyond.
    return {"loss": loss, "perplexity": math.exp(loss) if loss < 709 else None}


def held_out_loss(reference: Reference, model: GPT2, most: int | None = None) -> float:
    """`text_loss` of the text that was held out, or of its first `most` tokens, in nats per token."""
    tokens = reference.setup.held_out_tokens[:most].to(reference.machine.device)
    return text_loss(partial(logits_of, model), tokens, reference.seq_len)


def forgetting_of(reference: Reference, model: GPT2) -> dict:
    """KL from the base model and increase of the loss, in nats per token, on each kind of text there is."""
    found = {}
    for kind, texts in (("base_texts", reference.base_texts), ("general", reference.general_texts)):
        if texts is not None:
            kl = increase = np.zeros(len(texts))  # of the base model itself
            if model is not reference.base:
                kl, increase = divergence_from_base(reference.base, model, texts)  # (S,) each, nats per token
            found[kind] = {
                "kl": float(kl.mean()),
                "kl_ci": bootstrap_interval(kl),
                "loss_increase": float(increase.mean()),
                "loss_increase_ci": bootstrap_interval(increase),
            }
    return found


def continuations_of(reference: Reference, model: GPT2, count: int = PROMPTS) -> list[dict]:
    """How `model` goes on after the first `count` prompts, with the same luck as every other model."""
    prompts = reference.prompts[:count]
    rows = complete(
        model,
        prompts,
        reference.book_continuations.shape[1],
        temperature=SHOWN_TEMPERATURE,
        top_k=SHOWN_TOP_K,
        seed=reference.sampling.seed,
        banned=reference.setup.banned,
    )
    return [continuation(reference, row) for row in rows[:, prompts.shape[1] :].cpu()]


def continuation(reference: Reference, tokens: Tensor) -> dict:
    """`tokens` (N,) as the report shows them: piece by piece, the frequent ones and the copied runs marked."""
    setup, book = reference.setup, reference.setup.training_tokens
    copies = []
    for start, length, place in copied_runs(tokens, reference.index, reference.least):
        shown = book[max(0, place - CONTEXT_SHOWN) : place + length + CONTEXT_SHOWN]
        copies.append({"start": start, "tokens": length, "passage": setup.tokenizer.decode(shown.tolist())})
    frequent = set(setup.frequent)
    return {
        "pieces": decode_pieces(setup.tokenizer, tokens.tolist()),
        "frequent": [token in frequent for token in tokens.tolist()],
        "copies": copies,
    }


def decode_pieces(tokenizer, tokens: list[int]) -> list[str]:
    """A string for each token. A character that is split over several tokens stands with the last of them."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pieces = [decoder.decode(tokenizer.decode_single_token_bytes(token)) for token in tokens]
    pieces[-1] += decoder.decode(b"", final=True)
    return pieces


def book_evaluation(reference: Reference) -> dict:
    """The same measures of the book's own held-out text: what a perfect imitator, who did not copy, would reach."""
    found = {"continuations": [continuation(reference, row) for row in reference.book_continuations]}
    texts = reference.book_texts
    if texts is not None:
        found |= measures_of_texts(reference, texts)
        found["ratio"] = share_among(texts, reference.setup.frequent).mean().item()
        found["texts"] = len(texts)
        if texts.shape[1] > 1:
            as_many = texts[: reference.sampling.sequences]  # as the models write, which a trial keeps few
            found["base_perplexity"] = perplexity_under(reference.base, as_many.to(reference.machine.device))
    return found


def checkpoint(reference: Reference, model: GPT2, sample: int, texts: int) -> Checkpoint:
    """What is measured again and again during training. It changes no training number: sampling has its own generator.

    Args:
        sample: how many the model was trained on.
        texts: so many stand for all of them; 0: only the held-out loss.
    """
    setup, sampling = reference.setup, reference.sampling
    found = {"sample": sample}
    with evaluating(model):  # in float32 `rounded` is the model itself, in the middle of its training
        rounded = cast_copy(model, reference.machine.dtype)
        if setup.held_out:
            found["held_out_loss"] = held_out_loss(reference, rounded, HELD_OUT_ON_THE_WAY)
        if texts:
            kl, _ = divergence_from_base(reference.base, rounded, reference.base_texts[:texts])
            few = dataclasses.replace(sampling, sequences=min(texts, sampling.sequences))
            drawn_from = {"vocab_size": setup.tokenizer.n_vocab, "banned": setup.banned}
            written = frequent_token_ratio(rounded, setup.frequent, few, **drawn_from, device=reference.machine.device)
            copied = copied_share(written.tokens[:, 1:], reference.index, reference.least)
            found |= {"kl": float(kl.mean()), "copied": float(copied.mean())}
            found["continuations"] = continuations_of(reference, rounded, PROMPTS_ON_THE_WAY)
    return found
