"""A run that can be interrupted.

jobs.py         what the two commands do; start here
run.py          one run: the experiment with a recorder
outcome.py      its result and model
card.py         the card of its model
folder.py       its folder, checked
checkpoint.py   what an unfinished run saves
progress.py     what it shows
lock.py         one process at a time
signals.py      Ctrl-C and the like
"""
