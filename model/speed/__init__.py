"""Faster replacements; they change only the time and the rounding.

attention.py  attention in one kernel
packed.py     weights stored in the order that products of few rows need
centred.py    a head that loses little to bfloat16
empty.py      a model on the meta device, so that loading skips random initialisation
"""
