"""report.html: conclusion, figures, table, texts side by side. All of it from result files alone.

page.py          the page, put together; start here
texts.py         what each model wrote, marked
plots.py         the figures
report.html      the template of the page
meanings.html    what the numbers mean, a part of it
report.css       its style
__main__.py      python -m evaluate.report
"""
