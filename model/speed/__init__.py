"""The same writing in less time. Everything here can be left out but for the seconds, and the rounding of the head.

attention.py  attention in one kernel
packed.py     weights in the order that products of few rows want
centred.py    a head that loses little to bfloat16
empty.py      a model without memory, to read weights into
"""
