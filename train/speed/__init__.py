"""The same training step in less time. loop.py gives the same numbers without these files.

step.py            products in bfloat16, attention by windows, a batch in parts, memory kept between steps; start here
chunked_loss.py    the cross-entropy without a tensor of all logits
adamw.py           the optimizer's step as one operation
recorded.py        forward and backward pass as a CUDA graph
"""
