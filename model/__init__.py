"""GPT-2: the model, its weights, its folder and how it writes."""

from model.gpt2 import GPT2, GPT2Config
from model.hub import model_folder
from model.pretrained import load_pretrained, save_pretrained
from model.sampling import generate

__all__ = ["GPT2", "GPT2Config", "generate", "load_pretrained", "model_folder", "save_pretrained"]
