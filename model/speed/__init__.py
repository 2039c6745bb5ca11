"""Sampling in less time: weights packed for few rows, the head centred before it is rounded, a model without memory."""
