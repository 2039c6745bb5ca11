"""Is this GPT-2? And does the device compute what the CPU does?

published.py       compares weights, texts and ten training steps with published values
against_cpu.py     compares gradients, updates, draws and measures on the device with the CPU's; needs no network
device_check.py    compares a forward pass on the device with one on the CPU
__main__.py        python -m train.verify
"""
