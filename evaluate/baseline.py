"""What every model of a sweep is compared with: the book, and the base model before any training.

Each measure is a function of its own, in ratio.py, loss.py and measures/; here they meet the book and the base model.

Shape legend: S texts, N tokens in each (the start token not counted), V vocabulary, P prompts, M tokens of a text.
"""

import math
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import tiktoken
import torch
from torch import Tensor
from tqdm import tqdm

from data.book import Book, load_book
from data.flags import plain
from data.settings import Sampling, Settings
from evaluate.intervals import Interval, t_interval
from evaluate.loss import text_loss, window_losses
from evaluate.measures.continuations import (
    PROMPTS,
    SHOWN_TEMPERATURE,
    SHOWN_TOP_K,
    decode_pieces,
    decode_whole,
    pick_prompts,
)
from evaluate.measures.copying import (
    SourceIndex,
    copied_runs,
    copied_share,
    extraction,
    in_long_match,
    longest_copied,
    min_copy_length,
)
from evaluate.measures.forgetting import divergence_from_base, logits_of
from evaluate.ratio import Ratio, frequent_token_ratio, most_frequent_tokens, share_among
from evaluate.results import LOSSES, EvalPoint, Evaluation, Run, runs_of
from model.device import Machine
from model.gpt2 import GPT2, GPT2Config
from model.hub import file_sha256, source_of, weight_files
from model.pretrained import load_pretrained, never_drawn, open_model, parameter_count
from model.sampling import cast_copy, complete, evaluating

GENERAL_TEXTS = 64  # windows of `--general-text` that are read
TEXTS_KEPT = 8  # texts written for the ratio that go into the result
CONTEXT_SHOWN = 12  # tokens of the book on both sides of a copied run
# During training, only a part is measured: reading all of a long held-out text at 20 points, for example, would take
# longer than the training.
POINT_HELD_OUT = 8192  # the first tokens of the held-out text, two batches' worth; Gulliver's tenth has 14,369
POINT_TEXTS = 32  # the first of the base model's texts, for KL
POINT_PROMPTS = 2  # prompts that are continued


@dataclass(frozen=True)
class Baseline:
    """Model, text and machine, opened and checked; and what is measured of them once, when it is first asked for."""

    settings: Settings
    machine: Machine
    folder: Path  # the model's files
    name: str  # of the model: gpt2, or a folder's name
    config: GPT2Config
    tokenizer: tiktoken.Encoding
    book: Book
    tokens: Tensor  # (M,) the book's token ids
    held_out: int  # the last tokens of the book, this many, are never trained on
    general: Tensor | None  # (G, T) windows of another text, on which forgetting is measured too
    general_sha256: str | None  # of that text

    @property
    def sampling(self) -> Sampling:
        return self.settings.sampling

    @property
    def training_tokens(self) -> Tensor:
        return self.tokens[: len(self.tokens) - self.held_out]

    @property
    def held_out_tokens(self) -> Tensor:
        return self.tokens[len(self.tokens) - self.held_out :]

    @property
    def banned(self) -> list[int]:
        return never_drawn(self.tokenizer, self.config)

    @cached_property
    def frequent(self) -> list[int]:
        """The 100 most frequent ids of the text that is trained on; of the whole book if all of it is held out."""
        return most_frequent_tokens(self.training_tokens if len(self.training_tokens) else self.tokens)

    @property
    def book_ratio(self) -> float:
        """The share of the held-out tokens that are frequent: what a perfect imitator would reach."""
        return share_among(self.held_out_tokens, self.frequent).item()

    @property
    def in_sample_ratio(self) -> float:
        """The exercise's number for the book itself: the share of its tokens among its own 100 most frequent. It is
        too high for a yardstick, as the list is picked from the text that it then counts."""
        return share_among(self.tokens, most_frequent_tokens(self.tokens)).item()

    @cached_property
    def model_identity(self) -> dict:
        """Which model exactly: name, sha256 of its weights and, from the hub, repository and revision."""
        identity = {"name": self.name, "parameters": parameter_count(self.config), "sha256": None}
        if source := source_of(self.settings.model):
            # The cache keeps each revision in a folder of its name: that tells what `main` was.
            identity |= {"repository": source.repository, "revision": self.folder.name, "sha256": source.sha256}
        identity["sha256"] = identity["sha256"] or file_sha256(*weight_files(self.folder))
        return identity

    def fresh_model(self) -> GPT2:
        """The pretrained weights, as they are before any training."""
        return load_pretrained(self.folder, dropout=self.settings.training.dropout).to(self.machine.device)

    @cached_property
    def base(self) -> GPT2:
        """The base model in the dtype of the matrix products. Its weights may be finite and its losses not."""
        base = cast_copy(load_pretrained(self.folder).to(self.machine.device), self.machine.dtype)
        if not self.is_finite(base):
            raise ValueError(f"{self.folder} gives losses that are not finite numbers; are its weights damaged?")
        return base

    @cached_property
    def base_ratio(self) -> Ratio:
        return self.write(self.base, "writing before")

    @cached_property
    def before(self) -> Evaluation:
        """The evaluation of the base model: once is enough, with the same random numbers for every run."""
        began = time.monotonic()
        return self.measure(self.base, self.base_ratio, "measuring before", began)

    @cached_property
    def index(self) -> SourceIndex:
        """Of the text that is trained on."""
        return SourceIndex(self.training_tokens)

    @cached_property
    def min_copy_length(self) -> int:
        return min_copy_length(self.held_out_tokens, self.index)

    @property
    def tokens_per_word(self) -> float:
        """How finely the tokenizer cuts this text; in the language that it was made for about 1.3 tokens a word."""
        return len(self.tokens) / len(self.book.text.split())

    @cached_property
    def repeated(self) -> float:
        """Share of the held-out tokens in runs of 13 or more that stand in the text that is trained on."""
        return copied_share(self.held_out_tokens[None], self.index).item() if self.held_out else 0.0

    @cached_property
    def passages(self) -> tuple[Tensor, Tensor]:
        """(P, T) pieces of the book that every model continues, and (P, T') the book's own continuations."""
        return pick_prompts(self.held_out_tokens if self.held_out else self.tokens, self.tokenizer)

    @cached_property
    def book_texts(self) -> Tensor:
        """(S', N) the held-out text in pieces as long as what the models write; S' is 0 if it is too short for one."""
        return pieces(self.held_out_tokens, self.sampling.new_tokens)

    @cached_property
    def book_evaluation(self) -> dict:
        """The measures of the book's held-out text: a model that imitated the book perfectly would reach them."""
        found = {"continuations": [self.continuation(row) for row in self.passages[1]]}
        if len(self.book_texts):
            found |= self.measures_of_texts(self.book_texts[: self.sampling.sequences])
            found["ratio"] = self.book_ratio
            found["ratio_ci"] = t_interval(share_among(self.book_texts, self.frequent).numpy())
        return found

    def write(self, model: GPT2, title: str) -> Ratio:
        """Let `model`, cast to the machine's dtype, write from random tokens."""
        return frequent_token_ratio(
            cast_copy(model, self.machine.dtype),
            self.frequent,
            self.sampling,
            vocab_size=self.tokenizer.n_vocab,
            banned=self.banned,
            device=self.machine.device,
            title=title,
        )

    def evaluate(self, model: GPT2, name: str) -> Evaluation:
        """Let `model` write, and measure it; `name` is for the progress bars."""
        began = time.monotonic()
        return self.measure(model, self.write(model, f"writing {name}"), f"measuring {name}", began)

    def measure(self, model: GPT2, ratio: Ratio, title: str, began: float) -> Evaluation:
        """All measures of `model`, as a result file keeps them; measures/README.md says what each of them means.

        Args:
            ratio: of what it wrote.
            began: when its writing began, in seconds of `time.monotonic`.
        """
        rounded = cast_copy(model, self.machine.dtype)
        found = shares_of(ratio)
        found["texts"] = [self.tokenizer.decode(row) for row in ratio.tokens[:TEXTS_KEPT].tolist()]
        found |= self.measures_of_texts(ratio.tokens[:, 1:])
        measures = (self.losses, self.extraction, self.moved, self.continuations)
        for measure in tqdm(measures, title, unit="measure", leave=False, disable=None):
            found |= measure(rounded)
        return found | {"seconds": time.monotonic() - began}

    def measures_of_texts(self, texts: Tensor) -> dict:
        """The measures that are functions of `texts` (S, N) alone."""
        lengths, places = self.index.matches(texts)  # (S, N) each
        copied = in_long_match(lengths, self.min_copy_length).mean(axis=1)  # (S,)
        _, _, length, position = longest_copied(lengths, places)
        # distinct-2 falls as texts are added: models and book are compared over equally many.
        count = min(self.sampling.sequences, len(self.book_texts) or len(texts))
        passage = decode_whole(self.tokenizer, self.training_tokens[position : position + length].tolist())
        return {
            "copied": float(copied.mean()),
            "copied_shares": copied.tolist(),
            "longest_copy": {"tokens": length, "passage": passage, "position": position},
            "distinct_2": distinct(texts[:count], 2),
        }

    def extraction(self, model: GPT2) -> dict:
        """`extraction` on the text that is trained on and on what is held out; None if it is too short."""
        found = {}
        for name, tokens in (("training", self.training_tokens), ("held_out", self.held_out_tokens)):
            shares = extraction(model, tokens.to(self.machine.device), seed=self.sampling.seed, banned=self.banned)
            found |= mean(name, shares) if len(shares) else {name: None, f"{name}_ci": None}
        return {"extraction": found}

    def losses(self, model: GPT2, most: int | None = None) -> dict:
        """LOSSES on the held-out text or its first `most` tokens, and on as much at the end of the training text. The
        first list of windows is of half of the text that is measured during training. {} if nothing is held out."""
        if not self.held_out:
            return {}
        tokens, seq_len = self.held_out_tokens[:most].to(self.machine.device), self.settings.training.seq_len
        half = min(self.held_out, POINT_HELD_OUT) // 2
        half = half // seq_len * seq_len or half  # at the end of a window: the windows of the whole text are the same
        counts = (half, len(tokens) - 1 - half)  # of predicted tokens
        forward = partial(logits_of, model)
        windows = [window_losses(forward, part, seq_len) for part in (tokens[: half + 1], tokens[half:])]
        trained = self.training_tokens[-len(tokens) :].to(self.machine.device)
        return {
            "held_out_loss": float(sum(n * part.mean() for n, part in zip(counts, windows)) / sum(counts)),
            "held_out_windows": [part.tolist() for part in windows],
            "training_text_loss": text_loss(forward, trained, seq_len) if len(trained) > 1 else None,
        }

    def moved(self, model: GPT2) -> dict:
        """KL from the base model and increase of the loss, in nats per token, on each kind of text there is."""
        found = {}
        for kind, texts in (("base_texts", self.base_ratio.tokens), ("general", self.general)):
            if texts is not None:
                kl = increase = np.zeros(len(texts))  # of the base model itself
                if model is not self.base:
                    kl, increase = divergence_from_base(self.base, model, texts.to(self.machine.device))  # (S,) each
                found[kind] = mean("kl", kl) | mean("loss_increase", increase)
        return {"forgetting": found}

    def continuations(self, model: GPT2, count: int = PROMPTS) -> dict:
        """How `model` continues the first `count` prompts, with the same random numbers as every other model."""
        prompts, following = self.passages
        prompts = prompts[:count].to(self.machine.device)
        rows = complete(
            model,
            prompts,
            following.shape[1],
            temperature=SHOWN_TEMPERATURE,
            top_k=SHOWN_TOP_K,
            seed=self.sampling.seed,
            banned=self.banned,
        )
        return {"continuations": [self.continuation(row) for row in rows[:, prompts.shape[1] :].cpu()]}

    def continuation(self, tokens: Tensor) -> dict:
        """`tokens` (N,) as the report shows them: piece by piece, the frequent ones and the copied runs marked."""
        copies = []
        for start, length, place in copied_runs(tokens, self.index, self.min_copy_length):
            shown = self.training_tokens[max(0, place - CONTEXT_SHOWN) : place + length + CONTEXT_SHOWN]
            copies.append({"start": start, "tokens": length, "passage": decode_whole(self.tokenizer, shown.tolist())})
        frequent = set(self.frequent)
        return {
            "pieces": decode_pieces(self.tokenizer, tokens.tolist()),
            "frequent": [token in frequent for token in tokens.tolist()],
            "copies": copies,
        }

    def point(self, model: GPT2, step: int, texts: bool, measured: Evaluation | None = None) -> EvalPoint:
        """What is measured of `model` during its training. It changes no training number.

        Args:
            step: training steps so far.
            texts: measure not only the losses, but KL and continuations too.
            measured: the whole evaluation of this model, before or after its training: what it has is not repeated.
        """
        with evaluating(model):  # in float32 `rounded` is the model itself, in the middle of its training
            rounded = cast_copy(model, self.machine.dtype)
            if measured and self.held_out <= POINT_HELD_OUT:
                found = {name: measured[name] for name in LOSSES if name in measured}
            else:
                found = self.losses(rounded, POINT_HELD_OUT)
            if texts:
                base_texts = self.base_ratio.tokens[:POINT_TEXTS].to(self.machine.device)
                found["kl"] = float(divergence_from_base(self.base, rounded, base_texts)[0].mean())
                shown = measured or self.continuations(rounded, POINT_PROMPTS)
                found["continuations"] = shown["continuations"][:POINT_PROMPTS]
        return {"sample": step} | found

    @cached_property
    def first_point(self) -> EvalPoint:
        """The point of the base model at step 0, the same for every run."""
        return self.point(self.base, 0, True, self.before)

    def is_finite(self, model: GPT2) -> bool:
        """Whether the loss is finite after the last step."""
        seq_len = self.settings.training.seq_len
        return math.isfinite(text_loss(model, self.tokens[: seq_len + 1].to(self.machine.device), seq_len))

    def runs(self, outcomes: dict) -> list[Run]:
        """What `train.experiment` returned with these settings, by learning rate, as runs that were measured no
        further: their figure is the one of losses and ratios."""
        settings, training = self.settings, self.settings.training
        named = {"model_name": self.name, "model_identity": self.model_identity, "text_name": self.book.name}
        common = vars(training) | {
            "settings": vars(settings) | vars(training) | vars(settings.sampling) | named,
            "book": self.book_evaluation,
            "in_sample_ratio": self.in_sample_ratio,
            "environment": {"seconds": {}},
        }
        common |= {"checkpoints": [], "best_step": None, "shown": {}}
        results = []
        for lr, found in outcomes.items():
            after = found.after and shares_of(found.after)
            measured = {"before": shares_of(found.before), "after": after}
            results.append(common | {"lr": lr, "train_loss": found.losses} | measured)
        return runs_of(results)


def open_baseline(settings: Settings, device: str | None = None) -> Baseline:
    """Open model folder, tokenizer and text, and check that they fit together. No weights are read yet.

    The end of the text is held out as one passage: windows scattered over it would overlap with windows that are
    trained on.

    Args:
        device: of this process, if not that of the settings.
    """
    training, machine = settings.training, Machine(device or settings.device, settings.dtype)
    folder, config, tokenizer = open_model(settings.model)
    book = load_book(settings.text, raw=settings.raw_text)
    tokens = torch.tensor(tokenizer.encode_ordinary(book.text))
    held_out, seq_len = round(training.holdout * len(tokens)), training.seq_len
    if seq_len > config.block_size:
        raise ValueError(
            f"--seq-len {seq_len} is over the model's context of {config.block_size} tokens; "
            f"use {config.block_size} or less"
        )
    if len(tokens) - held_out <= seq_len:
        raise ValueError(
            f"the text has {len(tokens) - held_out} tokens to train on, a window needs {seq_len + 1}; "
            "use a longer text or a smaller --seq-len"
        )
    if training.holdout and held_out < 3:
        raise ValueError(
            f"--holdout {training.holdout} of {len(tokens)} tokens leaves too little to measure; hold out more"
        )
    if training.patience and not held_out:
        raise ValueError("--patience watches the held-out loss, and nothing is held out; use a larger --holdout")
    general, general_book = None, load_book(settings.general_text) if settings.general_text else None
    if general_book:
        general_tokens = torch.tensor(tokenizer.encode_ordinary(general_book.text))
        general = pieces(general_tokens, seq_len)[:GENERAL_TEXTS]
        if not len(general) or seq_len < 2:
            raise ValueError(
                f"--general-text {settings.general_text} has {len(general_tokens)} tokens, fewer than a window of "
                f"--seq-len {seq_len} (2 at least); use a longer text"
            )
    source = source_of(settings.model)
    return Baseline(
        settings=settings,
        machine=machine,
        folder=folder,
        name=source.repository.split("/")[1] if source else plain(folder.resolve().name),
        config=config,
        tokenizer=tokenizer,
        book=book,
        tokens=tokens,
        held_out=held_out,
        general=general,
        general_sha256=general_book.sha256 if general_book else None,
    )


def shares_of(ratio: Ratio) -> dict:
    """What an `Evaluation` has of `ratio`."""
    of_texts = {name: getattr(ratio, name) for name in ("ratio", "ratio_ci", "shares")}
    return of_texts | mean("without_top_k", ratio.without_top_k) | mean("with_top_k", ratio.with_top_k)


def mean(name: str, values: np.ndarray) -> dict[str, float | Interval | None]:
    """The mean of `values` (n,) under `name`, and its interval."""
    return {name: float(values.mean()), f"{name}_ci": t_interval(values)}


def pieces(tokens: Tensor, length: int) -> Tensor:
    """`tokens` (M,) cut into pieces of `length`, without the rest at the end: (M // length, length)."""
    return tokens[: len(tokens) // length * length].view(-1, length)


def distinct(texts: Tensor, n: int) -> float:
    """distinct-n: different n-grams in all of `texts` (S, N) together, as a share of all their n-grams.

    Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models". More and longer texts
    give a lower value: compare only texts of equal number and length. 1 if the texts are shorter than n.
    """
    texts = np.asarray(texts)
    starts = np.arange(texts.shape[1] - n + 1)
    grams = texts[:, starts[:, None] + np.arange(n)].reshape(-1, n)  # (S * (N - n + 1), n)
    return len(np.unique(grams, axis=0)) / len(grams) if len(grams) else 1.0
