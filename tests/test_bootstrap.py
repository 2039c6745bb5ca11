"""The bootstrap of the exercise."""

import numpy as np
import pytest

from tests.exercise.bootstrap import bootstrap_interval

VALUES = np.random.default_rng(0).normal(size=30)


def test_the_ends_are_two_numbers():
    ends = bootstrap_interval(VALUES)
    assert len(ends) == 2 and all(type(end) is float for end in ends) and ends[0] <= ends[1]


def test_the_same_seed_gives_the_same_interval():
    assert bootstrap_interval(VALUES, seed=3) == bootstrap_interval(VALUES, seed=3)


def test_another_seed_gives_another_interval():
    assert bootstrap_interval(VALUES, seed=3) != bootstrap_interval(VALUES, seed=4)


def test_values_are_drawn_with_replacement():
    """Without it every mean is the mean of all values, and the interval has no width."""
    low, high = bootstrap_interval(VALUES)
    assert high - low > 1e-6


def test_the_ends_are_those_of_means():
    """Means of 30 values vary less than the values do: their interval is about 0.7 standard deviations wide."""
    low, high = bootstrap_interval(VALUES)
    assert high - low < VALUES.std()


def test_a_mean_is_one_of_n_values():
    """Not one of all resamples, which hardly varies."""
    low, high = bootstrap_interval(VALUES)
    assert high - low > 0.3 * VALUES.std()


@pytest.mark.parametrize("place", [0, 19])
def test_every_value_can_be_drawn(place):
    values = np.zeros(20)
    values[place] = 1.0
    assert bootstrap_interval(values)[1] > 0


def test_the_number_of_resamples_is_the_one_asked_for():
    """Both ends of one resample are the same."""
    low, high = bootstrap_interval(VALUES, resamples=1)
    assert low == high


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
