"""GPT-2: the model, its weights, its folder and how it generates text.

Read gpt2.py, pretrained.py, sampling.py, in this order. hub.py finds or fetches a model folder, device.py chooses the
device, __main__.py continues a prompt. Read speed last. lilliput is the small model that is shipped.
"""
