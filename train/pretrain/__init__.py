"""A vocabulary and a small GPT-2 from nothing but a corpus. In the order of the work:

corpus.py         reading the texts
bpe.py            learning a vocabulary
recipe.py         the settings of a pretraining, and their flags
pretraining.py    training a model with random weights
__main__.py       python -m train.pretrain
"""
