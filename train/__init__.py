"""The fine-tune: a model, a text and a learning rate become a model and its losses.

Read experiment.py, loop.py, adamw.py; then __main__.py and sweep.py, which make commands of them. After them: run (runs
that can be interrupted), parallel.py, speed, verify, pretrain.
"""
