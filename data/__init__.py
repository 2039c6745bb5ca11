"""The book, the tokenizer and the batches."""

from data.batches import sample_batch
from data.book import Book, load_book
from data.tokenizer import load_tokenizer

__all__ = ["Book", "load_book", "load_tokenizer", "sample_batch"]
