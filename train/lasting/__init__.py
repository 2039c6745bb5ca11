"""A run that survives interruption: its folder, its state, its claim, its signals.

Read jobs.py and run.py first, then outcome.py and folder.py, then keeper.py and state.py, last claim.py and interruption.py.
README.md tells what a user sees of it.
"""
