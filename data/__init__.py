"""What the model reads: a text, its tokens, batches of them.

Read book.py, tokenizer.py, batches.py, in this order; download.py and generators.py serve them. README.md has more.
"""

from data.batches import sample_batch
from data.book import Book, load_book
from data.tokenizer import load_tokenizer

__all__ = ["Book", "load_book", "load_tokenizer", "sample_batch"]
