"""What the model reads: a text, its tokens, batches of them.

Read book.py, tokenizer.py, batches.py, in this order; download.py and generators.py serve them. README.md has more.
"""
