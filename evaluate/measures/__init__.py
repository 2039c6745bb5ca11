"""What loss and ratio cannot show: style, copying, forgetting, variety.

Read these four in any order; reference.py is what they are held against, measure.py puts them together, yardstick.py
measures all models of a sweep alike. finished.py is the work
of `python -m evaluate`. README.md says what every number means.
"""
