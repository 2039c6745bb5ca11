"""report.html: verdicts, figures, texts side by side."""
