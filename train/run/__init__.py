"""A run that can be interrupted. Read jobs.py first; README.md names the other files."""
