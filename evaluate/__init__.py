"""What a model writes, measured."""

from evaluate.ratio import Sampling, frequent_token_ratio, most_frequent_tokens

__all__ = ["Sampling", "frequent_token_ratio", "most_frequent_tokens"]
