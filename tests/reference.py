"""GPT-2 once more, in NumPy float64, from the equations: the oracle of the tests.

Weights are a dict as in OpenAI's file: its names, linear weights [in, out]. Nothing here is shared
with the model under test.
"""

import numpy as np


def layer_norm(x, gain, bias, eps):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * gain + bias


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attention(x, w, name, n_head):
    B, T, C = x.shape
    qkv = x @ w[f"{name}.c_attn.weight"] + w[f"{name}.c_attn.bias"]
    out = np.zeros_like(x)
    D = C // n_head
    for b in range(B):
        for head in range(n_head):
            q, k, v = (qkv[b, :, i * C + head * D : i * C + (head + 1) * D] for i in range(3))
            for t in range(T):  # one position at a time: nothing later is even looked at
                weights = softmax(q[t] @ k[: t + 1].T / np.sqrt(D))
                out[b, t, head * D : (head + 1) * D] = weights @ v[: t + 1]
    return out @ w[f"{name}.c_proj.weight"] + w[f"{name}.c_proj.bias"]


def logits(w, tokens, n_layer, n_head, eps=1e-5):
    """Weights and token ids (B, T) to logits (B, T, V), all float64."""
    x = w["wte.weight"][tokens] + w["wpe.weight"][: tokens.shape[1]]
    for i in range(n_layer):
        h = f"h.{i}"
        x = x + attention(layer_norm(x, w[f"{h}.ln_1.weight"], w[f"{h}.ln_1.bias"], eps), w, f"{h}.attn", n_head)
        inner = layer_norm(x, w[f"{h}.ln_2.weight"], w[f"{h}.ln_2.bias"], eps)
        inner = gelu_tanh(inner @ w[f"{h}.mlp.c_fc.weight"] + w[f"{h}.mlp.c_fc.bias"])
        x = x + inner @ w[f"{h}.mlp.c_proj.weight"] + w[f"{h}.mlp.c_proj.bias"]
    return layer_norm(x, w["ln_f.weight"], w["ln_f.bias"], eps) @ w["wte.weight"].T


def cross_entropy(w, inputs, targets, n_layer, n_head):
    """Mean next-token loss in nats."""
    p = softmax(logits(w, inputs, n_layer, n_head))
    return -np.log(np.take_along_axis(p, targets[..., None], -1)).mean()
