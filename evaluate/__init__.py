"""What a model writes, measured.

Read ratio.py, then loss.py; results.py, table.py and plot.py make a table and a figure of finished runs; setup.py,
settings.py and flags.py are what the commands share. The rooms below: measures (what loss and ratio cannot show), report, rate.
"""
