"""Is this GPT-2? Published numbers, and the device against the CPU.

published.py       weights, texts and ten training steps against what others published
device_check.py    one forward pass on the device and on the CPU
__main__.py        python -m train.verify
"""
