"""Faster stand-ins, which change nothing but the time and the rounding.

attention.py  attention in one kernel
packed.py     weights stored in the order that products of few rows need
centred.py    a head that loses little to bfloat16
empty.py      a model without memory, into which weights are loaded
"""
