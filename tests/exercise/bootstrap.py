"""The bootstrap: the interval of any number, where no formula is known. For a mean there is one, Student's t."""

import numpy as np


def bootstrap_interval(values: np.ndarray, seed: int = 0, resamples: int = 10_000) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values` (n,) (Efron 1979).

    The values must be those of whole texts: the tokens of one text are not independent.
    """
    picks = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
