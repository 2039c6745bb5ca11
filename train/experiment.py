"""The whole experiment on one page: fresh weights, write, fine-tune, write again."""

from dataclasses import dataclass

import torch
from tqdm import tqdm

from data.settings import Sampling, Settings, Training
from evaluate.baseline import open_baseline
from evaluate.ratio import Ratio
from model.gpt2 import GPT2
from train.adamw import AdamW
from train.loop import Diverged, finetune


@dataclass(frozen=True)
class Outcome:
    losses: list[float]  # training loss of each step, in nats per token
    before: Ratio  # share of the book's 100 most frequent tokens in what the model writes, with its 95 % interval
    after: Ratio | None  # None: the training diverged
    model: GPT2  # fine-tuned


def experiment(
    lr: float = 1e-4,
    samples: int = Training.samples,
    *,
    model: str = Settings.model,
    text: str = Settings.text,
    sampling: Sampling = Sampling(),
    device: str = Settings.device,
    **fields,
) -> Outcome:
    """What does the learning rate `lr` do to a fine-tune of `samples` steps?

    Args:
        model, text, device: as `--help` of the commands explains them.
        fields: further ones of `Training`, such as batch_size and seq_len (tokens). Levers, patience and micro_batch
            are for `python -m train` and change nothing here.
    """
    training = Training(samples, **fields)
    settings = Settings(str(model), str(text), training=training, sampling=sampling, device=device, dtype="float32")
    baseline = open_baseline(settings)  # tokenizer, tokens of the text, its 100 most frequent ones
    gpt2 = baseline.fresh_model()
    before = baseline.write(gpt2, "writing before")

    torch.manual_seed(training.seed)  # dropout's; batches and sampling have generators of their own
    optimizer = AdamW(gpt2.parameters(), lr, weight_decay=training.weight_decay)
    losses, after = [], None
    try:
        steps = finetune(gpt2, baseline.training_tokens, optimizer, training)
        for loss in tqdm(steps, "training", total=samples, unit="step", disable=None):
            losses.append(loss)
        after = baseline.write(gpt2, "writing after")
    except Diverged:
        pass
    return Outcome(losses, before, after, gpt2)
