"""What loss and ratio cannot show: style, copying, forgetting, variety.

Read these four in any order; reference.py is what they are held against, measure.py puts them together, yardstick.py
and ngram.py are for comparison. README.md says what every number means.
"""
