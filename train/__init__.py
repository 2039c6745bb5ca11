"""AdamW and the training loop."""

from train.adamw import AdamW
from train.loop import finetune

__all__ = ["AdamW", "finetune"]
