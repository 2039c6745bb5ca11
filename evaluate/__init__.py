"""What a model writes, measured.

Read ratio.py, then loss.py; baseline.py measures a model, and results.py, verdicts.py and table.py say what came out of
finished runs. The rooms below: measures (what loss and ratio cannot show), report, rate.
"""
