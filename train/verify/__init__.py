"""Is this GPT-2? Published numbers, and the device against the CPU."""
