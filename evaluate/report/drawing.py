"""matplotlib's names, for all who draw.

Figures go to files, so no backend is needed; but the library asks for the one in MPLBACKEND as it is imported, and ends
in an error where a notebook's is not installed. So that name is out of its sight for as long.
"""

import os

asked = os.environ.pop("MPLBACKEND", None)
try:
    from matplotlib import rc_context
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator
finally:
    if asked is not None:
        os.environ["MPLBACKEND"] = asked

__all__ = [
    "Artist",
    "Axes",
    "Figure",
    "Line2D",
    "LogFormatter",
    "MaxNLocator",
    "NullLocator",
    "Patch",
    "rc_context",
]
