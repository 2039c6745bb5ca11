"""The text, its tokens and its batches, and the settings of all commands.

Read book.py, tokenizer.py, batches.py, in this order; they use download.py and generators.py. README.md has more.
"""
