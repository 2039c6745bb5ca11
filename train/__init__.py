"""The fine-tune: a model, a text and a learning rate become a model and its losses.

Read experiment.py, loop.py, adamw.py; then settings.py, flags.py, __main__.py and sweep.py, which make commands of
them. The rooms below come after: lasting (interruption), speed, parallel, verify, pretrain. README.md has a line on each.
"""

from train.adamw import AdamW
from train.experiment import Outcome, experiment
from train.loop import finetune
from train.settings import Training

__all__ = ["AdamW", "Outcome", "Training", "experiment", "finetune"]
