"""A run that survives interruption: its folder, its state, its claim, its signals."""
