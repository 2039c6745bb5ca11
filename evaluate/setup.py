"""A model's folder, sizes and tokenizer, opened and checked."""

from pathlib import Path

import tiktoken

<<<<<<< HEAD
from data.tokenizer import load_tokenizer
from model.gpt2 import GPT2Config
from model.hub import model_folder
from model.pretrained import read_config
from model.speed.empty import empty_model

# A vocabulary may have rows beyond the tokenizer's: tokens that somebody added, or room up to a round number, which
# makes products faster. A larger difference is another model's tokenizer.
SPARE_ROWS = 1024


def open_model(model: str) -> tuple[Path, GPT2Config, tiktoken.Encoding]:
    """Folder, sizes and tokenizer of a model, which fit together. No weights are read yet.
=======
from data.book import Book, load_book
from evaluate.ratio import most_frequent_tokens, share_among
from model.gpt2 import GPT2Config
from model.hub import file_sha256, source_of, weight_files
from model.pretrained import never_drawn, open_model, parameter_count

@dataclass(frozen=True)
class Setup:
    asked: dict  # model, text, raw_text and general_text as they were asked for
    model: str  # its name: gpt2, or a folder's name
    folder: Path  # its four files
    config: GPT2Config
    tokenizer: tiktoken.Encoding
    book: Book
    tokens: Tensor  # (N,) the book's token ids
    held_out: int  # of these, the last so many are never trained on
    frequent: list[int]  # its most frequent ones, of the whole book as in the exercise, whatever is held out
    book_ratio: float  # share of the book's own tokens that are among them: what a perfect imitator would reach
    general: Book | None  # another text, on which forgetting is measured too

    @property
    def training_tokens(self) -> Tensor:
        return self.tokens[: len(self.tokens) - self.held_out]

    @property
    def held_out_tokens(self) -> Tensor:
        return self.tokens[len(self.tokens) - self.held_out :]

    @cached_property
    def model_identity(self) -> dict:
        """Which model exactly: its name, the sha256 of its weights and, from the hub, the repository and revision."""
        identity = {"name": self.model, "parameters": parameter_count(self.config), "sha256": None}
        if source := source_of(self.asked["model"]):
            # The cache keeps each revision in a folder of its name: that tells what `main` was.
            identity |= {"repository": source.repository, "revision": self.folder.name, "sha256": source.sha256}
        identity["sha256"] = identity["sha256"] or file_sha256(*weight_files(self.folder))
        return identity

    @property
    def banned(self) -> list[int]:
        return never_drawn(self.tokenizer, self.config)


def open_setup(
    model: str,
    text: str,
    *,
    raw_text: bool = False,
    general_text: str | None = None,
    holdout: float = 0.0,
    frequent_tokens: int = 100,
) -> Setup:
    """Open model folder, tokenizer and book, and check that they fit together. No weights are read yet.

    Args:
        holdout: share of the book, its end, to be kept out of training. One whole passage: windows
            scattered over the book would overlap with some that are trained on.
>>>>>>> 8be1d4c2320fe21a0eb8e4f1373bc41e6a97e950

    Raises:
        ValueError, FileNotFoundError, ConnectionError: with one line on what to do.
    """
<<<<<<< HEAD
    folder = model_folder(model)
    config, tokenizer = read_config(folder / "config.json"), load_tokenizer(folder)
    if not 0 <= config.vocab_size - tokenizer.n_vocab < SPARE_ROWS:
        raise ValueError(
            f"{folder}: config.json says {config.vocab_size} tokens, the tokenizer has {tokenizer.n_vocab}; "
            "take both from the same model"
        )
    return folder, config, tokenizer


def never_drawn(tokenizer: tiktoken.Encoding, config: GPT2Config) -> list[int]:
    """`<|endoftext|>`, after which another text would begin, and the rows of the vocabulary that stand for no text."""
    return [tokenizer.eot_token, *range(tokenizer.n_vocab, config.vocab_size)]


def parameter_count(config: GPT2Config) -> int:
    return sum(p.numel() for p in empty_model(config).parameters())
=======
    folder, config, tokenizer = open_model(model)
    book = load_book(text, raw=raw_text)
    tokens = torch.tensor(tokenizer.encode_ordinary(book.text))
    frequent = most_frequent_tokens(tokens, frequent_tokens)
    return Setup(
        asked={"model": str(model), "text": str(text), "raw_text": raw_text, "general_text": general_text},
        model=model_name(model, folder),
        folder=folder,
        config=config,
        tokenizer=tokenizer,
        book=book,
        tokens=tokens,
        held_out=round(holdout * len(tokens)),
        frequent=frequent,
        book_ratio=share_among(tokens, frequent).item(),
        general=load_book(general_text) if general_text else None,
    )


def model_name(model: str, folder: Path) -> str:
    """What captions call a model: its name without owner and revision, or its folder's."""
    source = source_of(model)
    return source.repository.split("/")[1] if source else folder.resolve().name
>>>>>>> 8be1d4c2320fe21a0eb8e4f1373bc41e6a97e950
