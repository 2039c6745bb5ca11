"""The same training step in less time. Everything here can be left out: loop.py and adamw.py give the same numbers.

step.py                products in bfloat16, a batch in parts, memory kept between steps; start here
window_attention.py    attention in bfloat16 on the CPU, a window at a time
chunked_loss.py        the cross-entropy without ever holding all logits
"""
