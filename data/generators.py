"""A generator of random numbers for each purpose, so that one purpose does not change the numbers of another.

The purpose is the first number of the seed. The same seed and purpose give the same numbers on every machine.
"""

import numpy as np

BATCHES = 1  # where the windows of a batch begin
SAMPLING = 2  # which token is drawn; model/sampling.py repeats the number
START_TOKENS = 3  # the first token of each text
HELD_OUT_TEXTS = 5  # which texts a pretraining holds out
EXTRACTION = 6  # where the prompts begin in a text
RATING = 7  # which texts are compared, and in which order
DEVICE_CHECK = 8  # the tokens of the device check before a run
DROPOUT = 9  # the dropout masks of one process among several
VERIFYING = 10  # the tokens, gradients and logits on which train.verify compares a device with the CPU


def generator(purpose: int, *seed: int) -> np.random.Generator:
    """A generator for one of the purposes above, seeded by all numbers of `seed`."""
    return np.random.default_rng([purpose, *seed])
