"""A blind comparison by human readers: two texts, which is better?

contest.py       who takes part, and what is compared in which order
session.py       asking in a terminal
page.py          the same as a web page
rate.html        its template
ratings.py       the answers, in a file
statistics.py    wins, Bradley-Terry scores, agreement
outcome.py       the same in words
__main__.py      python -m evaluate.rate
"""
