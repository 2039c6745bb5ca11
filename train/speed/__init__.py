"""The same training step in less time. Everything here can be left out: loop.py and adamw.py give the same numbers.

step.py                products in bfloat16, a batch in parts; start here
window_attention.py    attention in bfloat16 on the CPU, a window at a time
chunked_loss.py        the cross-entropy without ever holding all logits
adamw.py               AdamW with fewer trips to memory, and as one compiled kernel
memory.py              freed memory is kept for the next step; what a batch takes at the least
"""
