"""The whole experiment on one page: fresh weights, write, fine-tune, write again."""

from dataclasses import dataclass

import torch

from data.book import load_book
from data.settings import Sampling, Training
from data.tokenizer import load_tokenizer
from evaluate.ratio import Ratio, frequent_token_ratio, most_frequent_tokens
from model.device import device_of
from model.gpt2 import GPT2
from model.hub import model_folder
from model.pretrained import load_pretrained, never_drawn
from train.loop import finetune


@dataclass(frozen=True)
class Outcome:
    losses: list[float]  # training loss of each sample, in nats per token
    before: Ratio  # share of the book's 100 most frequent tokens in what the model writes, with its 95 % interval
    after: Ratio | None  # None: the training diverged
    model: GPT2  # fine-tuned


def experiment(
    lr: float = 1e-4,
    samples: int = Training.samples,
    *,
    model: str = "gpt2",
    text: str = "gulliver",
    sampling: Sampling = Sampling(),
    device: str = "auto",
    **settings,
) -> Outcome:
    """What does the learning rate `lr` do to a fine-tune of `samples` steps?

    Args:
        model: gpt2, gpt2-medium, gpt2-large, gpt2-xl, lilliput, or a model folder.
        text: gulliver, voyage, or a UTF-8 file.
        settings: further fields of `Training`, such as batch_size and seq_len (tokens).

    Raises:
        ValueError, OSError: with one line on what is wrong and what to do.
    """
    training = Training(samples=samples, **settings)
    tokenizer = load_tokenizer(model_folder(model))
    tokens = torch.tensor(tokenizer.encode_ordinary(load_book(text).text))  # (N,)
    frequent = most_frequent_tokens(tokens)
    gpt2 = load_pretrained(model, dropout=training.dropout).to(device_of(device))
    banned = never_drawn(tokenizer, gpt2.config)

    def ratio() -> Ratio:
        return frequent_token_ratio(
            gpt2, frequent, sampling, vocab_size=tokenizer.n_vocab, banned=banned, device=gpt2.wte.weight.device
        )

    before = ratio()
    held_out = round(training.holdout * len(tokens))  # the text's end, which is not trained on
    torch.manual_seed(training.seed)  # dropout's; batches and sampling have generators of their own
    losses = finetune(gpt2, tokens[: len(tokens) - held_out], lr, training)
    return Outcome(losses, before, ratio() if len(losses) == samples else None, gpt2)
