"""GPT-2: the model, its weights, its folder and how it writes.

Read gpt2.py, pretrained.py, sampling.py, in this order; hub.py says where a model folder comes from, device.py where
the model is computed. speed comes last, and lilliput is the small model that is shipped.
"""

from model.gpt2 import GPT2, GPT2Config
from model.hub import model_folder
from model.pretrained import load_pretrained, save_pretrained
from model.sampling import generate

__all__ = ["GPT2", "GPT2Config", "generate", "load_pretrained", "model_folder", "save_pretrained"]
