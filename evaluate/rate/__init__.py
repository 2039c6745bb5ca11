"""A blind comparison by human readers: two texts, which is better?

contest.py       who meets whom, and what a reader is shown
ratings.py       the answers, in a file
session.py       asking in a terminal
page.py          the same as a web page
rate.html        its template
statistics.py    wins, Bradley-Terry scores, agreement
__main__.py      python -m evaluate.rate
"""
