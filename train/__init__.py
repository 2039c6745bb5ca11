"""AdamW and the training loop."""

from train.adamw import AdamW
from train.finetune import finetune

__all__ = ["AdamW", "finetune"]
