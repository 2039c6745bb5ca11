"""What a model writes, measured."""

from evaluate.ratio import frequent_token_ratio, most_frequent_tokens

__all__ = ["frequent_token_ratio", "most_frequent_tokens"]
