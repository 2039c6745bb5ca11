"""report.html: verdicts, figures, texts side by side. All of it from result files alone.

verdicts.py      what the numbers say, by rules that are printed with them; start here
chance.py        is a difference chance? Luck of the writing, of the batches' order, and the table over seeds
tables.py        a row for each model
texts.py         what each of them wrote, marked
making.py        how the runs were made
drawing.py       matplotlib's names, whatever a notebook has set
plots.py         the figures
figures.py       the panels that plots.py does not draw itself
closing.py       the same for a terminal, shorter
titles.py        the figures' files and titles
captions.py      what was done, and what to see in each figure, in sentences
page.py          the page, put together
report.html      its template
meanings.html    what the measures mean, a part of it
report.css       its style
template.py      templates, filled in
__main__.py      python -m evaluate.report
"""
