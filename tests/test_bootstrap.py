"""The bootstrap of the exercise."""

import numpy as np
import pytest

from tests.exercise.bootstrap import bootstrap_interval


def test_the_interval_is_over_sequences():
    """Sequences all of one kind: 200 sequences of 0 or 1 have a standard error of 0.5 / sqrt(200)."""
    shares = np.array([0.0, 1.0] * 100)
    low, high = bootstrap_interval(shares)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.0354, 0.5 + 1.96 * 0.0354), abs=0.006)
    assert bootstrap_interval(np.array([0.25, 0.25])) == (0.25, 0.25)
    assert bootstrap_interval(shares) == (low, high)  # the same every time


def test_the_interval_is_made_of_percentiles():
    """One of 20: a redrawn mean is a binomial's, of which 36 % are 0, 92 % at most 2 / 20 and 98 % at most 3 / 20."""
    assert bootstrap_interval(np.array([1.0] + 19 * [0.0])) == pytest.approx((0.0, 3 / 20), abs=1e-12)
