"""report.html: verdicts, figures, texts side by side. All of it from result files alone.

verdicts.py    what the numbers say, by rules that are printed with them; start here
figures.py     the panels
page.py        the page
report.html    its template
report.css     its style
__main__.py    python -m evaluate.report
"""
