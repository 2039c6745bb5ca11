"""AdamW, the training loop and the experiment."""

from train.adamw import AdamW
from train.experiment import Outcome, experiment
from train.loop import finetune
from train.settings import Training

__all__ = ["AdamW", "Outcome", "Training", "experiment", "finetune"]
