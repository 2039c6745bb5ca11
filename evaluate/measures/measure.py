"""All that is measured about a model, put together: what stands under `before` and `after` in a result file.

Each measure is a function of its own, in ratio.py, style.py, copying.py, forgetting.py, variety.py and
loss.py; here they meet the book, the base model and the flags.

Shape legend: S texts, N tokens in each, the start token not counted, V vocabulary.
"""

import argparse
import codecs
import math
import time
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from evaluate.flags import sampling_of
from evaluate.loss import text_loss
from evaluate.measures.copying import copied_runs, copied_share, extraction, longest_copied, novelty
from evaluate.measures.forgetting import divergence_from_base, logits_of
from evaluate.measures.reference import Reference, Written
from evaluate.measures.style import (
    divergence_from,
    divergence_interval,
    letters_ratio,
    ratio_of_sums,
    ratio_of_sums_interval,
)
from evaluate.measures.variety import distinct, perplexity_under, repeated
from evaluate.ratio import bootstrap_interval, frequent_token_ratio, share_among
from evaluate.setup import Setup
from model.device import dtype_of
from model.gpt2 import GPT2
from model.sampling import cast_copy, evaluating, generate

TEXTS_KEPT = 8  # of the texts written for the ratio, this many go into the result
CONTEXT_SHOWN = 12  # tokens of the book to both sides of a copied run


def evaluation(
    reference: Reference,
    model: GPT2,
    written: Written,
    args: argparse.Namespace,
    device: torch.device,
    change: dict[str, float],
    title: str,
) -> dict:
    """All measures of `model`, as a result file keeps them; README.md says what each of them means.

    Args:
        written: what it wrote.
        change: its `weight_change` from the base model, 0 for that model itself.
    """
    began = time.monotonic()
    setup, texts = reference.setup, written.texts
    rounded = cast_copy(model, dtype_of(args.dtype, device))
    with tqdm(total=6, desc=title, unit="measure", leave=False) as progress:
        found = {
            "ratio": written.ratio.ratio,
            "ratio_ci": written.ratio.ratio_ci,
            "shares": written.ratio.shares,
            "expected_ratio": float(written.masses.mean()),
            "expected_ratio_ci": bootstrap_interval(written.masses),
            "texts": [setup.tokenizer.decode(row) for row in written.ratio.tokens[:TEXTS_KEPT].tolist()],
        }
        found |= measures_of_texts(reference, texts, intervals=True)
        progress.update()
        found["base_perplexity"] = perplexity_under(reference.base, written.ratio.tokens.to(device))
        progress.update()
        found["extraction"] = extraction_of(reference, rounded, args.seed, device)
        progress.update()
        found["held_out"] = None
        if setup.held_out:
            loss = held_out_loss(setup, rounded, args, device)
            # exp(709) is the largest float there is; a model that exploded may be beyond.
            found["held_out"] = {"loss": loss, "perplexity": math.exp(loss) if loss < 709 else None}
        progress.update()
        found["forgetting"] = {"base_texts": forgetting_of(reference, rounded, reference.base_texts)}
        if reference.general_texts is not None:
            found["forgetting"]["general"] = forgetting_of(reference, rounded, reference.general_texts)
        found["weight_change"] = change
        progress.update()
        continued = generate(
            rounded,
            reference.prompts,
            reference.book_continuations.shape[1],
            temperature=args.temperature,
            top_k=args.top_k or None,
            seed=args.seed,
            banned=[setup.tokenizer.eot_token],
        )[:, reference.prompts.shape[1] :]
        found["continuations"] = [continuation(reference, row) for row in continued.cpu()]
        progress.update()
    return found | {"seconds": time.monotonic() - began}


def measures_of_texts(reference: Reference, texts: Tensor, intervals: bool) -> dict:
    """The measures that are functions of `texts` (S, N) alone, whoever wrote them."""
    setup, index = reference.setup, reference.index
    frequent, book = setup.frequent, setup.training_tokens
    hits, letters = letters_ratio(texts, frequent, reference.letters)  # (S,) each
    copied = copied_share(texts, index)  # (S,)
    _, _, length, position = longest_copied(texts, index)
    # distinct-n falls as texts are added: models and book are compared over as many.
    count = min(len(texts), len(reference.book_texts)) if reference.book_texts is not None else len(texts)
    found = {
        "letters_ratio": ratio_of_sums(hits, letters),
        "divergence": divergence_from(texts, book, frequent),
        "copied": float(copied.mean()),
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
    if intervals:
        found["letters_ratio_ci"] = ratio_of_sums_interval(hits, letters)
        found["divergence_ci"] = divergence_interval(texts, book, frequent)
        found["copied_ci"] = bootstrap_interval(copied)
    return found


def extraction_of(reference: Reference, model: GPT2, seed: int, device: torch.device) -> dict:
    """`extraction` on the text that is trained on and on what is held out, each with its interval; None where it
    is too short."""
    found = {}
    for name, tokens in (
        ("training", reference.setup.training_tokens),
        ("held_out", reference.setup.held_out_tokens),
    ):
        shares = extraction(model, tokens.to(device), seed=seed, banned=[reference.setup.tokenizer.eot_token])
        found[name] = float(shares.mean()) if len(shares) else None
        found[f"{name}_ci"] = bootstrap_interval(shares) if len(shares) else None
    return found


def forgetting_of(reference: Reference, model: GPT2, texts: Tensor) -> dict:
    kl, increase = divergence_from_base(reference.base, model, texts)  # (S,) each, nats per token
    return {
        "kl": float(kl.mean()),
        "kl_ci": bootstrap_interval(kl),
        "loss_increase": float(increase.mean()),
        "loss_increase_ci": bootstrap_interval(increase),
    }


def continuation(reference: Reference, tokens: Tensor) -> dict:
    """`tokens` (N,) as the report shows them: piece by piece, the frequent ones and the copied runs marked."""
    setup, book = reference.setup, reference.setup.training_tokens
    copies = []
    for start, length, place in copied_runs(tokens, reference.index):
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


def held_out_loss(setup: Setup, rounded: GPT2, args: argparse.Namespace, device: torch.device) -> float:
    """`text_loss` of the text that was held out, in nats per token."""
    return text_loss(partial(logits_of, rounded), setup.held_out_tokens.to(device), args.seq_len)


def book_evaluation(reference: Reference) -> dict:
    """The same measures of the book's own held-out text: what a perfect imitator, who did not copy, would reach."""
    found = {"continuations": [continuation(reference, row) for row in reference.book_continuations]}
    texts = reference.book_texts
    if texts is not None:
        found |= measures_of_texts(reference, texts, intervals=False)
        found["ratio"] = share_among(texts, reference.setup.frequent).mean().item()
        found["texts"] = len(texts)
        device = reference.base.wte.weight.device
        if texts.shape[1] > 1:
            found["base_perplexity"] = perplexity_under(reference.base, texts.to(device))
    return found


def checkpoint(
    reference: Reference, model: GPT2, args: argparse.Namespace, device: torch.device, sample: int, texts: int
) -> dict:
    """What is measured again and again during training. It changes no training number: sampling has its own generator.

    Args:
        sample: how many the model was trained on.
        texts: so many stand for all of them; 0: only the held-out loss.
    """
    setup = reference.setup
    found, steps = {"sample": sample}, bool(setup.held_out) + 2 * bool(texts)
    with (
        tqdm(total=steps, desc=f"measuring at sample {sample}", unit="measure", leave=False) as progress,
        evaluating(model),
    ):  # in float32 `rounded` is the model itself, in the middle of its training
        rounded = cast_copy(model, dtype_of(args.dtype, device))
        if setup.held_out:
            found["held_out_loss"] = held_out_loss(setup, rounded, args, device)
            progress.update()
        if texts:
            kl, _ = divergence_from_base(reference.base, rounded, reference.base_texts[:texts])
            progress.update()
            sampling = sampling_of(args) | {"sequences": min(texts, args.eval_sequences)}
            banned = [setup.tokenizer.eot_token]
            written = frequent_token_ratio(rounded, setup.frequent, **sampling, banned=banned, device=device)
            copied = copied_share(written.tokens[:, 1:], reference.index)
            found |= {"kl": float(kl.mean()), "copied": float(copied.mean())}
            progress.update()
    return found
