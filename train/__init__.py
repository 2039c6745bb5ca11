"""The fine-tune: a model, a text and a learning rate become a model and its losses.

Read experiment.py, loop.py, adamw.py; then settings.py, flags.py, __main__.py and sweep.py, which make commands of
them. The rooms below come after: lasting (interruption), speed, parallel, verify, pretrain. README.md has a line on each.
"""
