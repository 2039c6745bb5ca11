"""Several processes: a sweep's runs, or one run's batches.

team.py    the processes of one run: each computes a part of every batch, and all take the same step
"""
