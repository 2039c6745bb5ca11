"""One yardstick for all models of a sweep: the same book, base model, start tokens and luck."""

import math
from dataclasses import dataclass
from functools import cached_property

from data.settings import Sampling
from evaluate.loss import text_loss
from evaluate.measures.forgetting import parts_of, weight_change
from evaluate.measures.measure import (
    HELD_OUT_ON_THE_WAY,
    PROMPTS_ON_THE_WAY,
    book_evaluation,
    checkpoint,
    evaluation,
)
from evaluate.measures.reference import Reference, open_reference, write
from evaluate.results import Checkpoint, Evaluation
from evaluate.setup import Setup
from model.device import Machine
from model.gpt2 import GPT2
from model.pretrained import load_pretrained


@dataclass(frozen=True)
class Yardstick:
    reference: Reference
    before: Evaluation  # of the base model
    book: dict  # the same measures of the book's own held-out text

    @property
    def setup(self) -> Setup:
        return self.reference.setup

    @property
    def machine(self) -> Machine:
        return self.reference.machine

    def evaluate(self, model: GPT2, name: str) -> Evaluation:
        """Let `model` write, and measure it; `name` is for the progress bars."""
        written = write(self.setup, model, self.reference.sampling, self.machine, f"writing {name}")
        # From the base model in float32, unlike the reference's. It has no name: it is gone when the measuring begins.
        change = weight_change(load_pretrained(self.setup.folder).to(self.machine.device), model)
        return evaluation(self.reference, model, written, change, f"measuring {name}")

    @cached_property
    def first_checkpoint(self) -> Checkpoint:
        """That of the base model, the same for every run."""
        return self.checkpoint_of(self.reference.base, 0, self.before)

    def checkpoint_of(self, model: GPT2, sample: int, measured: Evaluation) -> Checkpoint:
        """`checkpoint` of a model that was `measured` as a whole, before training or after it, by all its texts."""
        found = {"sample": sample, "kl": measured["forgetting"]["base_texts"]["kl"], "copied": measured["copied"]}
        found["continuations"] = measured["continuations"][:PROMPTS_ON_THE_WAY]
        if self.setup.held_out > HELD_OUT_ON_THE_WAY:
            found |= self.checkpoint(model, sample, 0)
        elif measured["held_out"]:
            found["held_out_loss"] = measured["held_out"]["loss"]
        return found

    def checkpoint(self, model: GPT2, sample: int, texts: int) -> Checkpoint:
        """`checkpoint` by this yardstick."""
        return checkpoint(self.reference, model, sample, texts)

    def finds_sound(self, model: GPT2) -> bool:
        """Whether `model` still gives numbers: the last step may have been the one too many."""
        window = self.setup.training_tokens[: self.reference.seq_len + 1].to(self.machine.device)
        return math.isfinite(text_loss(model, window, self.reference.seq_len))


def open_yardstick(setup: Setup, base: GPT2, sampling: Sampling, seq_len: int, machine: Machine) -> Yardstick:
    """Evaluate the base model: once is enough, with the same weights, start tokens and luck for every run."""
    written = write(setup, base, sampling, machine, "writing before")
    reference = open_reference(setup, base, written, sampling, seq_len, machine)
    unchanged = dict.fromkeys(parts_of(base), 0.0)
    before = evaluation(reference, reference.base, written, unchanged, "measuring before")
    return Yardstick(reference, before, book_evaluation(reference))
