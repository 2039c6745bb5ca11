"""A blind comparison by human readers: two texts, which is better?"""
