"""The random generators: one for each purpose, all seeded alike, so that no purpose disturbs another.

The purpose is the first number of the seed. Two of the same seed and purpose draw the same numbers, on every machine.
"""

import numpy as np

BATCHES = 1  # where the windows of a batch begin
SAMPLING = 2  # which token is drawn; model/sampling.py, which imports nothing of ours, has the number itself
START_TOKENS = 3  # what each text begins with
BOOTSTRAP = 4  # which texts are drawn again, for an interval
HELD_OUT_TEXTS = 5  # what a pretraining does not see
EXTRACTION = 6  # where in a text the prompts are
RATING = 7  # what is compared in which order
DEVICE_CHECK = 8  # the tokens that a device is tried on
DROPOUT = 9  # the masks of one process among several


def generator(purpose: int, *seed: int) -> np.random.Generator:
    """A generator for one of the purposes above; every number of `seed` counts."""
    return np.random.default_rng([purpose, *seed])
