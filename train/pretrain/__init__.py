"""Makes a vocabulary and a small GPT-2 from a corpus, in this order:

corpus.py         reading the texts
bpe.py            learning a vocabulary
pretraining.py    training a model with random weights
__main__.py       python -m train.pretrain
"""
