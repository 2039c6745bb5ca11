"""A blind comparison by human readers."""
