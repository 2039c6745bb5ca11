"""A blind comparison by human readers: which of two texts is better?"""
