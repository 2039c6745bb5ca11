"""GPT-2: the model, its weights, its folder and how it writes.

Read gpt2.py, pretrained.py, sampling.py, in this order; hub.py says where a model folder comes from, device.py where
the model is computed; __main__.py lets it answer. speed comes last, and lilliput is the small model that is shipped.
"""
