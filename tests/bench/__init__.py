"""The benchmark: `make bench`. README.md has what it measured.

rows.py      what is measured, and what was aimed at; what a step needs at least
workers.py   two processes that take turns
ours.py      our side
theirs.py    the other side: the usual notebook, or a compiled peer
alone.py     what has no other side: the command's own time, and the machine's speed
page.py      tables of it
__main__.py  the command
"""
