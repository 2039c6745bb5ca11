"""95 % intervals: of a mean, and of a share that was counted."""

import math
from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float]  # low and high


def t_interval(values: Sequence[float]) -> Interval | None:
    """95 % interval of the mean of `values` (n,), by Student's t (Student 1908); None if there is one value.

    The values must be independent: those of whole texts, windows or seeds. The tokens of one text are not, and an
    interval over single tokens would come out too narrow.
    """
    n = len(values)
    if n < 2:
        return None
    # t with n - 1 degrees of freedom is sqrt(n - 1) tan(a), where the density of the angle a is as cos(a)^(n - 2).
    angles = (np.arange(10_000) + 0.5) * math.pi / 20_000
    below = np.cumsum(np.cos(angles) ** (n - 2))
    quantile = math.sqrt(n - 1) * math.tan(np.interp(0.95 * below[-1], below, angles + angles[0]))
    mean, half = np.mean(values), quantile * np.std(values, ddof=1) / math.sqrt(n)
    return float(mean - half), float(mean + half)


def wilson_interval(share: float, n: int) -> Interval:
    """95 % interval of a share seen in `n` independent trials (Wilson 1927).

    It does not shrink to a point when all trials end alike. Ties, as half wins, make it a little too wide.
    """
    z = 1.959964  # the normal distribution's 97.5 % quantile
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, (middle - half) / (1 + z**2 / n)), min(1.0, (middle + half) / (1 + z**2 / n))
