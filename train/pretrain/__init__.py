"""A vocabulary and a small GPT-2 from nothing but a corpus."""
