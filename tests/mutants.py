"""Do the tests notice? Puts one fault at a time into a copy of the project and runs the tests that concern it.

    python -m tests.mutants                        # the described faults below
    python -m tests.mutants --only causal          # those that have the word in their file, code, tests or description
    python -m tests.mutants --random 40 --seed 1   # 40 faults drawn blindly from the product's code
    python -m tests.mutants --stale                # described faults whose code is no longer there

A test that has never failed proves little: it may compare a number with itself, run on data on which right and wrong
agree (a gain of 1, a bias of 0, a prompt of one token), or not reach the line at all. Most faults in a language model
raise no error either; the model only writes worse. A fault that survives shows that a test is missing.
(DeMillo, Lipton and Sayward 1978, "Hints on Test Data Selection".)

The described faults are in the files of the reading path; `python -m tests.exercise fault` draws from them.
Nothing here changes the project itself.
"""

import argparse
import ast
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate, pairwise, zip_longest
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NOT_COPIED = (".git", ".venv*", ".ci", ".*_cache", "__pycache__", "runs", "exercises")
TIME_LIMIT = 300  # seconds for the tests that concern a fault; an endless loop counts as caught
SUITE_LIMIT = 1200  # seconds for all tests

THE_LOOP = (
    "train/test_train.py::test_the_loop_is_the_definition "
    "train/test_train.py::test_the_exercises_settings_are_the_defaults "
    "train/test_train.py::test_dropout_is_off_unless_the_model_has_one "
    "train/test_train.py::test_a_loss_that_is_no_number_stops_the_loop"
)

# file: {tests that concern it, below tests/: [(old text, which occurs once in the file, new text, what that breaks)]}
# fmt: off
TABLE = {
    "model/gpt2.py": {
        "model/test_gpt2.py": [
            ('approximate="tanh"', 'approximate="none"', "the exact GELU (erf) for OpenAI's"),
            ("self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)",
             "self.ln_1 = nn.LayerNorm(config.n_embd, eps=1e-5)", "a block's norm ignores the config's epsilon"),
            ("self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)",
             "self.ln_f = nn.LayerNorm(config.n_embd, eps=1e-5)", "the last norm ignores the config's epsilon"),
            (" / math.sqrt(q.shape[-1])", "", "attention written out: the scale left out"),
            ("math.sqrt(q.shape[-1])", "math.sqrt(q.shape[-2])", "attention written out: the scale of T, not of D"),
            (".triu(1)", ".triu(2)", "attention written out: it sees one token of the future"),
            (".triu(1)", ".triu()", "attention written out: no token sees itself"),
            (".softmax(-1)  #", ".softmax(-2)  #", "attention written out: softmax over the queries"),
            ("y.transpose(1, 2).flatten(2)", "y.reshape(len(y), y.shape[2], -1)", "heads merged without the transpose"),
            ("z.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)",
             "z.view(B, self.n_head, T, C // self.n_head)", "heads split without the transpose"),
            ("q, k, v = self.c_attn(x)", "k, q, v = self.c_attn(x)", "queries and keys change places"),
            ("nn.Linear(config.n_embd, 3 * config.n_embd)", "nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)",
             "attention without biases"),
            ("F.linear(x, self.wte.weight)", "F.linear(x, self.wte.weight.detach())",
             "the head gives no gradient to the embedding"),
            ("self._init_weights()", "self._init_weights(); self.lm_head = nn.Parameter(self.wte.weight.clone())",
             "an untied head"),
            ("torch.arange(start, end,", "torch.arange(start + 1, end + 1,", "positions off by one"),
            ("end > self.config.block_size", "end > self.config.block_size + 1", "one token more than the context"),
            ("x = x + self.attn(", "x = self.attn(", "no residual around the attention"),
            ("return x + self.mlp(self.ln_2(x))", "return self.mlp(self.ln_2(x))", "no residual around the MLP"),
            ("self.attn(self.ln_1(x)", "self.attn(self.ln_2(x)", "ln_2 where ln_1 belongs"),
            ("self.mlp(self.ln_2(x))", "self.mlp(self.ln_1(x))", "ln_1 where ln_2 belongs"),
            ("x + self.mlp(self.ln_2(x))", "self.ln_2(x + self.mlp(x))", "the norm after the MLP (post-norm)"),
            ("return self.ln_f(x)", "return x", "the last norm left out"),
            ("for block in self.h:", "for block in self.h[:-1]:", "the last block left out"),
            ("math.sqrt(2 * self.config.n_layer)", "math.sqrt(self.config.n_layer)", "init: scaled for half the depth"),
            ('name.endswith("c_proj.weight")', 'name.endswith("attn.c_proj.weight")', "init: the MLP's not scaled"),
            ('0.01 if name == "wpe.weight" else 0.02 * scale', "0.02 * scale", "init: positions as large as tokens"),
            ('elif name.endswith("bias")', 'elif name.endswith("ln_f.bias")', "init: biases are random, not zero"),
            ("self.drop(self.wte(tokens)", "(self.wte(tokens)", "no dropout on the embeddings"),
            ("self.resid_dropout(self.c_proj(y))", "self.c_proj(y)", "no dropout after the attention"),
            ("self.dropout(self.c_proj(F.gelu", "(self.c_proj(F.gelu", "no dropout after the MLP"),
            ("self.dropout if self.training else 0.0", "0.0", "no dropout of attention weights"),
            ("self.dropout if self.training else 0.0", "self.dropout", "attention dropout outside training too"),
        ],
        "model/test_sampling.py": [
            ("torch.arange(start, end,", "torch.arange(end - start,", "positions begin anew in each cached step"),
            ("self.attn(self.ln_1(x), attend)", "self.attn(self.ln_1(x))", "what was read is forgotten"),
        ],
    },
    "model/speed/attention.py": {
        "model/test_gpt2.py": [("is_causal=True", "is_causal=False", "attention is not causal: it sees the future")],
    },
    "model/sampling.py": {
        "model/test_sampling.py": [
            ("logits.argmax(-1)", "logits.argmin(-1)", "greedy takes the least likely"),
            ("(logits.double() / temperature)", "(logits.double() * temperature)", "temperature multiplies"),
            ("values[:, k - 1 : k]", "values[:, k : k + 1]", "top-k off by one"),
            ("values < kth", "values <= kth", "top-k without the k-th"),
            (" or (values[:, -1:] == kth).any():", ":", "ties with the k-th are cut"),
            ("ids, order = ids.sort(-1)", "order = ids.argsort(-1)", "top-k: logits and ids in different orders"),
            ("ids.gather(1, place)", "place", "top-k: places taken for ids"),
            ("(logits.double() / temperature).softmax(-1)", "(logits.float() / temperature).softmax(-1).double()",
             "the distribution in float32"),
            ("-1:], right=True)", "-1:], right=False)", "the draw can fall on a token of probability zero"),
            ("[2, seed, row]", "[2, seed, row - first_row]", "the first row's number is ignored"),
            ("[2, seed, row]", "[2, seed]", "all rows have the same random numbers"),
            ("[2, seed, row]", "[2, row]", "the seed is ignored"),
            ("uniform[:, i]", "uniform[:, 0]", "a row has one random number for all tokens"),
            ("model.embed(tokens, start)", "model.embed(tokens)", "the cache reads every token at position 0"),
            ("torch.cat((k, v)", "torch.cat((v, k)", "keys and values change places"),
            ("store[:, :, start : self.filled])", "store[:, :, : self.filled - start])", "cached keys and values lost"),
            ("store[:, :, : self.filled].chunk(2)", "store.chunk(2)", "empty places are read"),
            ("is_causal=True", "is_causal=False", "tokens of the prompt see the future"),
            ("if start == 0:", "if True:", "a new token sees nothing but itself"),
            ("keys.mT / math.sqrt(q.shape[-1])", "keys.mT", "a new token's scores are not divided"),
            ("[:, -1].clone()", "[:, -1]", "banned tokens are masked in the memory of the model"),
            ("self.head(model.ln_f(x[:, -1])", "self.head((x[:, -1])", "no last norm in the cached step"),
            ("cached = use_cache and", "cached = not use_cache and", "no cache: all tokens are read for each new one"),
            ("T + new_tokens - 1 <= block_size", "T + new_tokens - 2 <= block_size", "a cache one token too long"),
            (" and T + new_tokens - 1 <= block_size", "", "the cache used although the window must slide"),
            ("tokens[:, -block_size:]", "tokens[:, -block_size + 1 :]", "sliding window one token short"),
            ("tokens[:, -block_size:]", "tokens[:, :block_size]", "the window does not slide"),
            ("logits.index_fill_(1, banned, -torch.inf)", "pass", "banned tokens are drawn"),
            ("model.eval()", "pass", "dropout while writing"),
            ("model.train()", "pass", "training mode is not put back"),
        ],
        "train/speed/test_speed.py": [
            ("centred_head(weight, weight.dtype)", "weight", "logits of -100 are rounded to bfloat16 as they are"),
            ("torch.promote_types(weight.dtype, torch.float32)", "weight.dtype", "scores are rounded to bfloat16"),
        ],
        "test_device_path.py": [
            ("torch.tensor(banned, dtype=torch.long, device=tokens.device)", "torch.tensor(banned, dtype=torch.long)",
             "the banned ids stay on the CPU"),
            ("sample_token(logits.to(exact)", "sample_token(logits", "float64 on a GPU of Apple, which has none"),
            ('logits.device.type != "cpu" or ', "", "top-k waits for a GPU at each token"),
        ],
    },
    "data/batches.py": {
        "data/test_data.py train/test_train.py::test_the_loop_is_the_definition": [
            ("windows[:, 1:]", "windows[:, :-1]", "targets are not shifted"),
            ("(len(tokens) - seq_len,", "(len(tokens) - seq_len - 1,", "the last window is never drawn"),
            ("(BATCHES, seed, step)", "(BATCHES, seed)", "every step has the same batch"),
            ("(BATCHES, seed, step)", "(BATCHES, step)", "the seed is ignored"),
            ("for start in starts]).long()", "for start in starts])", "targets stay int32, which no loss takes"),
        ],
    },
    "data/generators.py": {
        "data/test_generators.py": [
            ("START_TOKENS = 3", "START_TOKENS = 2", "start tokens share the random numbers of sampling"),
            ("[purpose, *seed]", "[purpose, *seed[:1]]", "every batch is the first"),
        ],
    },
    "train/adamw.py": {
        "train/test_adamw.py": [
            ("add_(g, alpha=1 - beta1)", "add_(g + self.weight_decay * p, alpha=1 - beta1)",
             "decay coupled: it enters the first moment"),
            ("p.mul_(1 - self.lr * self.decay(p))", "p.mul_(1 + self.lr * self.decay(p))", "decay grows"),
            ("p.mul_(1 - self.lr * self.decay(p))", "p.mul_(1 - self.decay(p))", "decay without the rate"),
            ("value=-1", "value=-1 + self.lr * self.weight_decay", "decay after the step, not before"),
            ("1 - beta1**self.steps, 1 - beta2**self.steps",
             "1 - beta1 ** (self.steps + 1), 1 - beta2 ** (self.steps + 1)", "bias corrections off by one step"),
            ("correction1, correction2 =", "correction2, correction1 =", "the bias corrections swapped"),
            ("(self.lr / correction1)", "self.lr", "no first bias correction"),
            ("(v / correction2).sqrt_()", "v.sqrt()", "no second bias correction"),
            ("(v / correction2).sqrt_().add_(self.eps)", "(v / correction2).add_(self.eps).sqrt_()", "eps in the root"),
            ("(v / correction2).sqrt_().add_(self.eps)", "v.sqrt().add_(self.eps).div_(correction2 ** 0.5)",
             "eps before the bias correction"),
            ("beta1, beta2 = self.betas", "beta2, beta1 = self.betas", "the betas swapped"),
            ("addcmul_(g, g, value=1 - beta2)", "add_(g.abs(), alpha=1 - beta2)", "v from |g|, not g^2"),
            ("m.mul_(beta1)", "m.add_(0)", "the first moment never fades"),
            ("p.grad = None", "pass", "gradients are not forgotten"),
            ("if p.grad is not None:", "if True:", "a parameter without a gradient"),
            ("list(parameters)", "parameters", "a generator is empty the second time"),
            ("weight_decay: float = 0.01", "weight_decay: float = 0.0", "no decay by default"),
        ],
    },
    "train/speed/adamw.py": {
        "train/test_adamw.py::test_fused_the_step_is_the_same": [
            ('"weight_decay": decay', '"weight_decay": self.weight_decay', "fused: vectors decay with matrices_only"),
            ("float(self.steps)", "float(self.steps - 1)", "fused: the corrections are a step late"),
            ("if state[0].grad is not None]", "if self.parameters[1].grad is not None]",
             "fused: one tensor without a gradient and none gets a step"),
        ],
    },
    "train/loop.py": {
        "train/speed/test_speed.py": [("return loss.item()", "return loss", "every sample's graph is kept")],
        THE_LOOP: [
            ("optimizer.zero_grad()", "pass", "gradients add up from step to step"),
            ("yield loss", "yield next_token_loss(model, inputs, targets).item()",
             "the loss is measured after the step"),
            ("settings.seq_len, settings.seed, step)", "settings.seq_len, 0, step)", "the seed is ignored"),
            ("settings.seed, step)", "settings.seed, 0)", "every step has the same batch"),
            ("if not (math.isfinite(loss) and math.isfinite(length)):", "if False:",
             "goes on after a loss of inf"),
            ("model.eval()", "pass", "the model is left in training mode"),
            ("model.train()", "pass", "no dropout although the model has one"),
        ],
        "train/run/test_interruption.py::test_a_gradient_that_is_no_number_stops_the_loop_before_the_step": [
            ("(math.isfinite(loss) and math.isfinite(length))", "math.isfinite(loss)", "a step with a gradient of inf"),
        ],
        "train/run/test_interruption.py::test_a_diverged_run_says_where_and_of_what": [
            ("(math.isfinite(loss) and math.isfinite(length))", "math.isfinite(length)", "a loss of NaN is kept"),
            ('"gradient" if math.isfinite(loss) else "loss"', '"loss"', "a gradient of inf is called a loss"),
        ],
        "train/run/test_interruption.py::test_a_keeper_brings_back_all_that_training_depends_on": [
            ("range(optimizer.steps, settings.samples)", "range(settings.samples)",
             "a resumed run begins with the first batch again"),
        ],
    },
    "train/levers.py": {
        "train/test_levers.py": [
            ("max(1, settings.samples - settings.warmup)", "(settings.samples - settings.warmup + 1)",
             "a decay ends one step late"),
            ("(step - settings.warmup) / max", "step / max", "the warm-up counts as decay"),
            ("peak * (step + 1)", "peak * step", "the first step of a warm-up has a rate of 0"),
            ("math.cos(math.pi * done)", "math.cos(math.pi / 2 * done)", "a cosine that ends half-way"),
            ("if step < settings.warmup:", "if step < settings.warmup and settings.schedule == 'constant':",
             "no warm-up before a decay"),
            ("optimizer.lr = rate_of_step(optimizer.steps, peak, settings)\n    for", "for",
             "the first step has the peak"),
            ("optimizer.lr = rate_of_step(optimizer.steps, peak, settings)\n        yield", "yield",
             "the rate stays the first one"),
            ("re.search(pattern, name) is not None", "True", "everything is trained"),
            ("if parameter.requires_grad]", "]", "frozen parameters have moments"),
            (r"|^ln_f", "", "the last norm is frozen with last:N"),
            ('"ln_"', '"ln_[12]"', "the last norm does not belong to the norms"),
            ("range(layers - last, layers)", "range(last)", "the first blocks for the last"),
            ("with torch.no_grad():", "with torch.enable_grad():", "the base model gets gradients"),
            ("log_p.exp() * (log_p - logits.log_softmax(-1))",
             "logits.softmax(-1) * (logits.log_softmax(-1) - log_p)", "the divergence the other way round"),
            (".sum(-1).mean()", ".mean()", "the divergence is divided by the vocabulary too"),
            ("return loss.item()\n", "return (loss + beta * kl).item()\n", "the loss with the divergence is returned"),
            ("(loss + beta * kl)", "(loss + kl)", "beta is ignored"),
            ("clip_grads_with_norm_(parameters, norm, length)",
             "[clip_grads_with_norm_(p, norm, p.grad.norm()) for p in parameters]",
             "the norm is clipped tensor by tensor"),
            ("if length.isfinite():", "if True:", "clipping hides a gradient of inf"),
        ],
    },
    "train/speed/chunked_loss.py": {
        "train/test_levers.py": [
            ("-1 / N, dtype", "-(1 + beta) / N, dtype", "the leash pulls towards the target as well"),
            ("mul_((1 + beta) / N)", "mul_(1 / N)", "the leash pushes from the base model alone"),
            ("alpha=beta / N)", "alpha=beta)", "the divergence is a sum, not a mean"),
            ("if ctx.needs_input_grad[1] else None", "", "a frozen head gets a gradient"),
            ("logits[:, V:].fill_(-math.inf)", "pass", "on a GPU: the padding of the vocabulary has a probability"),
        ],
        "test_device_path.py": [
            ("if on_cpu else (N, N, 2 * V)", "", "on a GPU: the head in pieces, 1,600 launches"),
            ("(0, 0, 0, -len(head) % 64)", "(0, 0, 0, 1)", "on a GPU: one row of padding, which aligns nothing"),
        ],
    },
    "train/speed/step.py": {
        "train/speed/test_speed.py": [
            ('"GeluBackward0" else saved', '"" else saved', "the output of the GELU is kept too"),
            ('F.gelu(kept[0]._saved_self, approximate="tanh")', "F.gelu(kept[0]._saved_self)",
             "another GELU is made again"),
        ],
    },
    "train/speed/recorded.py": {
        "test_device_path.py": [
            ("place.copy_(part)", "pass", "recorded: every batch is the first"),
            ("p.grad = None", "pass", "recorded: gradients of the pass before are added"),
            ("p.grad = grad", "pass", "recorded: no gradients after the first step"),
            ("self.batch = inputs.clone(), targets.clone()", "self.batch = inputs, targets", "recorded: on another's batch"),
            ("!= (model, inputs.shape)", "is None", "recorded: another model gets the gradients of the first"),
        ],
    },
    "train/experiment.py": {
        "train/test_experiment.py": [
            ("baseline.training_tokens", "baseline.tokens", "the held-out text is trained on"),
            ("sampling=sampling, ", "", "the sampling settings are ignored"),
            ("Training(samples, **fields)", "Training(samples)", "further settings are ignored"),
            ("weight_decay=training.weight_decay", "weight_decay=0.01", "weight decay is not passed on"),
            ("torch.manual_seed(training.seed)", "pass", "dropout does not repeat"),
            ("    losses, after = [], None\n", "    losses, after = [], before\n", "a diverged model has a ratio"),
        ],
    },
    "evaluate/ratio.py": {
        "evaluate/test_evaluate.py": [
            ('np.argsort(-counts, kind="stable")', 'np.argsort(counts, kind="stable")[::-1]', "ties: larger id first"),
            ("[:count].tolist()", "[: count + 1].tolist()", "one frequent token too many"),
            ("share_among(tokens[:, 1:], frequent)", "share_among(tokens, frequent)", "start tokens are counted"),
            ("size=(sampling.sequences, 1))", "size=(1, 1)).repeat(sampling.sequences, 0)", "all texts start alike"),
            ("(START_TOKENS, sampling.seed)", "(START_TOKENS)", "start tokens do not depend on the seed"),
            ("seed=sampling.seed,", "seed=0,", "the writing does not depend on the seed"),
            ("first_row=first,", "first_row=0,", "every group has the same random numbers"),
            ("banned=banned,", "", "banned tokens are drawn"),
            ("temperature=sampling.temperature,", "", "the temperature is ignored"),
            ("top_k=sampling.top_k or None,", "", "top-k is ignored"),
            ("sampling.top_k or None", "sampling.top_k", "a top-k of 0 is not all"),
            ("t_interval(shares.numpy())", "t_interval(torch.isin(tokens[:, 1:], ids).double().flatten().numpy())",
             "the interval is over tokens, not texts"),
            ("(None, Sampling.top_k)", "(None, sampling.top_k or None)", "expected with the top-k of the drawing"),
            ("top_k >= logits.shape[-1]", "top_k < logits.shape[-1]", "the expected ratio ignores top-k"),
        ],
        "test_device_path.py": [("else 4 * GROUP", "else GROUP", "on a GPU: texts in small groups")],
    },
    "evaluate/intervals.py": {
        "evaluate/test_evaluate.py": [
            ("quantile = math.sqrt(n - 1)", "quantile = math.sqrt(n)", "Student's t of one degree of freedom more"),
            ("** (n - 2)", "** (n - 1)", "an angle of one degree of freedom more"),
            ("np.std(values, ddof=1)", "np.std(values)", "a standard deviation that is too small"),
            ("0.95 * below[-1]", "0.975 * below[-1]", "a one-sided quantile"),
            ("    if n < 2:", "    if n < 1:", "an interval of a single text"),
        ],
    },
    "evaluate/results.py": {
        "evaluate/test_verdicts.py": [
            (".get(\"held_out_windows\", [])[half:]", ".get(\"held_out_windows\", [])", "the half that chose reports too"),
            ("t_interval([b - a for", "t_interval([a - b for", "a rise is a fall"),
            ("key=lambda p: halves(p)[0]", "key=lambda p: halves(p)[1]", "the half that reports chooses"),
        ],
    },
    "evaluate/verdicts.py": {
        "evaluate/test_verdicts.py": [
            ("return loss_change(first, second, half=1)[0] > 0", "return loss_change(first, second, half=1)[1] > 0",
             "a rise within the noise counts"),
            ("if p[\"training_text_loss\"] > base[\"training_text_loss\"] and rises(base, p)", "if rises(base, p)",
             "over-fitting is a step that is too large"),
            ("SEEDS = 3 ", "SEEDS = 2 ", "two seeds are enough for a word"),
            ("t_interval([second[seed] - first[seed] for", "t_interval([second[seed] - min(first.values()) for",
             "the seeds are not paired"),
            ("if gap and gap[0] <= 0]", "if gap and gap[1] <= 0]", "as good is only what is better"),
            ("wilson_interval(mine / texts, texts)[0]", "mine / texts", "copies without an interval"),
        ],
    },
    "evaluate/baseline.py": {
        "evaluate/test_baseline.py": [
            ("self.training_tokens if len(self.training_tokens) else self.tokens", "self.tokens",
             "the list of frequent tokens is in-sample"),
            ("self.measures_of_texts(self.book_texts[: self.sampling.sequences])", "self.measures_of_texts(self.book_texts)",
             "more of the book is measured than of the models"),
            ("trained = self.training_tokens[-len(tokens) :]", "trained = self.training_tokens", "another amount of text"),
        ],
    },
}

# The same for files that are not on the reading path: no exercise draws from them.
HOUSE = {
    "model/device.py": {
        "test_device_path.py::test_every_door_multiplies_float32_alike": [
            ('if self.device.type == "cuda":', "if False:", "TF32 is off: float32 on a GPU is many times slower"),
        ],
    },
    "evaluate/baseline.py": {
        "train/run/test_disks.py": [
            ("if not self.is_finite(base):", "if False:", "weights whose losses are no numbers are trained"),
        ],
    },
    "evaluate/measures/continuations.py": {
        "evaluate/test_baseline.py": [
            ("if 0x80 <= byte < 0xC0", "if False", "prompts are cut inside a character"),
            ("(cut >= last)", "(cut >= 0)", "prompts are cut inside a word"),
            ("CHARACTER if not a or", "LINE if not a or", "what begins a held-out part counts as a line's beginning"),
            (".lstrip(bytes(range(0x80, 0xC0)))", "", "a passage begins with half a character"),
            ("> len(lengths) / 2", ">= 1", "one long line makes a text wrapped"),
        ],
    },
    "evaluate/table.py": {
        "evaluate/test_table.py": [
            ("    if not wrapped:\n        return text\n", "", "verse flows as prose"),
        ],
    },
    "evaluate/measures/copying.py": {
        "evaluate/measures/test_copying.py": [
            ("lengths[run] + 2**k", "lengths[run] + 1", "a long match is found token by token"),
            ("& (last.take", "| (last.take", "a match goes on behind the source's end, and where it differs"),
        ],
    },
    "data/files.py": {
        "train/run/test_disks.py": [
            ("os.replace(folder / file.name, file)", "shutil.copyfile(folder / file.name, file)", "links are written through"),
            ("if error.errno not in NOT_OFFERED:\n                    raise", "raise", "a disk without fsync ends a run"),
            ("if error.errno not in NOT_OFFERED:", "if False:", "a broken disk is no error"),
            ("if FULL.search(str(error)):", "if False:", "a full disk does not name the file"),
        ],
        "train/run/test_interruption.py": [
            ("if left.fullmatch(path.name) and", "if", "somebody's folder .tmp-... is deleted"),
        ],
    },
    "data/flags.py": {
        "data/test_flags.py": [
            ("plain(message).split()", "message.split()", "an error's names reach the terminal raw"),
            ("return self.stream.write(plain(text))", "return self.stream.write(text)", "names reach the terminal raw"),
            ("if len(message) > LONGEST:", "if False:", "a name of megabytes is printed"),
        ],
    },
    "evaluate/results.py": {
        "train/run/test_interruption.py": [
            (" == folder_name(identity)", "", "a run of another name is deleted with the others"),
        ],
        "evaluate/test_evaluate.py": [
            ("below = below or sorted", "below = sorted", "a copy beside the runs of a sweep ends its report"),
        ],
    },
    "train/run/lock.py": {
        "train/run/test_disks.py": [
            ('        if file.is_symlink():\n            raise ValueError(f"{file} is a link; delete it, or name another --out")\n'
             '        opened = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)',
             "        opened = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)", "the lock empties the file behind a link"),
            ("or found.st_nlink > 1 or", "or", "the lock empties a file that has a second name"),
            ("    if error.errno not in NOT_OFFERED:\n            raise", "    raise", "a disk without locks ends a run"),
        ],
    },
    "train/run/folder.py": {
        "train/run/test_interruption.py": [
            (" if not path.is_symlink())", ")", "--overwrite deletes behind a link"),
            ("            drop_card(path)", "            (path / CARD_FILE).unlink(missing_ok=True)",
             "--overwrite deletes somebody's README.md"),
            ("if there and not (run or runs):", "if False:", "somebody's model is replaced"),
            ("if job.folder.is_symlink() and", "if False and", "a run is written through a link"),
        ],
        "train/run/test_disks.py": [
            ("if ours and not job.finished:", "if False:", "the settings are written when the measuring is done"),
            ('("seed", "model", "text", "general_text")', '("seed",)', "a model is known by its path"),
        ],
    },
    "train/loop.py": {
        "test_device_path.py::test_a_step_on_a_device": [
            ("(model, inputs, targets)  # of", "(model, inputs.cpu().to(inputs.device), targets)  # of",
             "tokens are copied to the GPU for each batch"),
        ],
    },
    "evaluate/ratio.py": {
        "test_device_path.py::test_the_texts_for_the_ratio_wait_for_no_token": [
            ("torch.tensor(frequent, device=device)", "torch.tensor(frequent)", "each token waits for a copy of the frequent ids"),
        ],
    },
    "train/parallel.py": {
        "train/test_parallel.py": [
            ('name in ("auto", "cuda")', 'name == "auto"', "with --device cuda all processes compute on the first GPU"),
            ("if here > gpus:", "if False:", "two processes of one run on one GPU hang"),
        ],
    },
    "train/run/checkpoint.py": {
        "train/run/test_interruption.py::test_a_short_training_saves_no_state_at_its_end": [
            ("0.0 if ended else self.took", "self.took", "what took minutes to train is lost while it is measured"),
        ],
    },
    "train/run/run.py": {
        "train/run/test_interruption.py::test_a_short_training_saves_no_state_at_its_end": [
            ("(ended and self.baseline.settings.keep_state)", "ended", "a state is saved that is deleted seconds later"),
            ("(ended and self.baseline.settings.keep_state)", "False", "a run with --keep-state cannot go on"),
        ],
        "train/run/test_disks.py": [
            ("if identity_in(job.folder) is None:", "if False:", "a run goes on in a folder that another has begun anew"),
            ("complete(job, baseline.settings.keep_state)", "pass", "a run killed after its result stays unfinished"),
        ],
    },
    "train/verify/__main__.py": {
        "train/verify/test_verify.py::test_a_device_is_compared_with_the_cpu_first": [
            ("if not checks:", "if True:", "verify: without a network a device is not checked"),
            ("[against_cpu(device)]", "[]", "verify: a device is not compared with the CPU"),
        ],
    },
    "train/verify/against_cpu.py": {
        "train/verify/test_against_cpu.py": [
            ("gradients_of(way, device, *batches)", "gradients_of(way, device, batches[1])",
             "verify: a graph that keeps its first batch is not seen"),
            ("distance(moved[2], moved[0])", "distance(moved[1], moved[0])", "verify: the fused step is not compared"),
            ("behind.max()", "behind.min()", "verify: one right token excuses all others"),
            ("abs(found / reference - 1)", "found / reference - 1", "verify: a loss that is too small passes"),
        ],
    },
}
# fmt: on

# Faults that change no result, as (file, old line, new line): why. They are not drawn.
EQUIVALENT = {
    (
        "evaluate/measures/copying.py",
        "tokens = np.pad(texts, ((0, 0), (0, 1)), constant_values=-2).ravel()  # -2, found nowhere: the text is over",
        "tokens = np.pad(texts, ((0, 1), (0, 1)), constant_values=-2).ravel()  # -2, found nowhere: the text is over",
    ): "a further row of -2 is an empty text",
    (
        "evaluate/rate/contest.py",
        "drawn.append(Comparison(prompt, *(sides if rng.random() < 0.5 else sides[::-1])))",
        "drawn.append(Comparison(prompt, *(sides if rng.random() <= 0.5 else sides[::-1])))",
    ): "exactly 0.5 is drawn once in 2^53 times",
    (
        "train/pretrain/corpus.py",
        "np.array([tokenizer.eot_token, *tokenizer.encode_ordinary(text)], dtype=np.uint16)",
        "np.array([tokenizer.eot_token, *tokenizer.encode_ordinary(text)], )",
    ): "the same tokens in a larger file",
}

ROOMS = ("data", "model", "train", "evaluate")
ALWAYS = ("train/test_train.py", "evaluate/test_evaluate.py")  # they run the whole product, so they concern every fault
SOURCE_TESTS = ("test_readme.py", "test_exercise.py", "test_bench.py", "test_mutants.py")  # they compare source text
# Not changed: texts for people, promises to the reader, and the looks of a figure, which eyes judge.
KEPT_KEYWORDS = set("help metavar description prog frozen strict flush".split())
KEPT_KEYWORDS |= set("linewidth markersize alpha zorder fontsize capsize pad va frameon".split())
# An operator in the source, and what a fault makes of it.
SWAPS = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"), ast.And: ("and", "or"), ast.Or: ("or", "and"),
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"), ast.Mod: ("%", "*"), ast.Pow: ("**", "*"),
}  # fmt: skip


class Fault(NamedTuple):
    file: str
    old: str
    new: str
    tests: str  # files, folders or node ids below tests/, separated by spaces
    breaks: str
    line: int | None = None  # where `old` begins; None: `old` occurs once in the file

    @property
    def name(self) -> str:
        return f"{self.file}: {self.breaks}"


FAULTS, HOUSE_FAULTS = (
    [
        Fault(file, old, new, tests, breaks)
        for file, groups in table.items()
        for tests, rows in groups.items()
        for old, new, breaks in rows
    ]
    for table in (TABLE, HOUSE)
)


def start_of(fault: Fault, source: str) -> int:
    """Where in `source` the fault's old text begins."""
    if fault.line is not None:
        return sum(len(row) + 1 for row in source.split("\n")[: fault.line - 1])
    if source.count(fault.old) != 1:
        raise ValueError(f"{fault.name}: occurs {source.count(fault.old)} times, not once: {fault.old}")
    return source.index(fault.old)


def put_in(fault: Fault, source: str) -> str:
    """`source` with the fault in it; a ValueError where the old text is not there or the new is not Python."""
    start = start_of(fault, source)
    faulty = source[:start] + fault.new + source[start + len(fault.old) :]
    try:
        compile(faulty, fault.file, "exec")
    except SyntaxError as error:
        raise ValueError(f"{fault.name}: with the fault line {error.lineno} is not Python: {fault.new}") from None
    return faulty


def stale(faults: list[Fault]) -> list[str]:
    """A line for each fault that cannot be put into its file any more."""
    complaints = []
    for fault in faults:
        try:
            put_in(fault, (ROOT / fault.file).read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            complaints.append(str(error))
    return complaints


def nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the parts of a program that a fault may change.

    Left out are type annotations, help texts, the message of a `raise` and the block under `if __name__`; f-strings
    too, since Python 3.11 does not know the places of their parts.
    """
    yield node
    if isinstance(node, ast.Raise):
        return
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if (
                isinstance(child, ast.AST)
                and field not in ("annotation", "returns")
                and not isinstance(child, ast.JoinedStr)
                and not (isinstance(child, ast.keyword) and child.arg in KEPT_KEYWORDS)
                and not (isinstance(child, ast.If) and ast.unparse(child.test).startswith("__name__ =="))
            ):
                yield from nodes(child)


def possible(file: str, source: str) -> list[Fault]:
    """Every fault that can be drawn for a file; its old and new texts are whole lines, of which one part differs."""
    rows, found = source.split("\n"), []
    starts = list(accumulate((len(row) + 1 for row in rows), initial=0))
    tests = " ".join(concerned(file))

    def place(row: int, column: int) -> int:  # the column counts bytes
        return starts[row - 1] + len(rows[row - 1].encode()[:column].decode())

    def span(node: ast.AST) -> tuple[int, int]:
        return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)

    def change(kind: str, first: int, last: int, new: str) -> None:
        top, bottom = source.rfind("\n", 0, first) + 1, source.find("\n", last)
        line = source.count("\n", 0, top) + 1
        faulty = source[top:first] + new + source[last:bottom]
        found.append(Fault(file, source[top:bottom], faulty, tests, kind, line))

    def swap(operator: ast.AST, left: ast.AST, right: ast.AST) -> None:
        if type(operator) in SWAPS:
            old, new = SWAPS[type(operator)]
            first = source.index(old, span(left)[1], span(right)[0])
            kind = "comparison swapped" if isinstance(operator, ast.cmpop) else "operator swapped"
            change(kind, first, first + len(old), new)

    def negate(condition: ast.AST) -> None:
        first, last = span(condition)
        change("condition negated", first, last, f"not ({source[first:last]})")

    for node in nodes(ast.parse(source)):
        match node:
            case ast.Compare():
                for operator, (left, right) in zip(node.ops, pairwise([node.left, *node.comparators])):
                    swap(operator, left, right)
            case ast.BoolOp():
                for left, right in pairwise(node.values):
                    swap(node.op, left, right)
            case ast.BinOp():
                swap(node.op, node.left, node.right)
            case ast.AugAssign():
                swap(node.op, node.target, node.value)
            case ast.If() | ast.While() | ast.IfExp():
                negate(node.test)
            case ast.comprehension():
                for condition in node.ifs:
                    negate(condition)
            case ast.Constant() if type(node.value) in (int, float):
                more = node.value + 1 if isinstance(node.value, int) else 2 * node.value or 1.0
                change("number changed", *span(node), repr(more))
            case ast.Raise():
                change("raise dropped", *span(node), "pass")
            case ast.Expr(value=ast.Call()):
                change("call dropped", *span(node), "pass")
            case ast.keyword(arg=str()):
                first, last = span(node)
                change("keyword dropped", first, re.compile(r"(\s*,\s*)?").match(source, last).end(), "")
    return found


def concerned(file: str) -> list[str]:
    """The tests that concern a file: those of its room and those that run the whole product."""
    room = next(folder for folder in Path(file).parents if (ROOT / "tests" / folder).is_dir()).as_posix()
    return [room, *(test for test in ALWAYS if not test.startswith(f"{room}/"))]


def draw(number: int, seed: int, room: str = "") -> list[Fault]:
    """`number` different faults of the product's code or of one room, drawn by chance; the kinds take turns."""
    faults = [
        fault
        for name in ([room] if room else ROOMS)
        for file in sorted((ROOT / name).rglob("*.py"))
        for fault in possible(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8"))
    ]
    random.Random(seed).shuffle(faults)
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.breaks, []).append(fault)
    drawn = [fault for turn in zip_longest(*kinds.values()) for fault in turn if fault]
    return [fault for fault in drawn if (fault.file, fault.old.strip(), fault.new.strip()) not in EQUIVALENT][:number]


def run_tests(folder: Path, tests: str, *options: str, limit: int = TIME_LIMIT) -> tuple[int | None, str]:
    """pytest's exit code, None where the time limit ended it, and what it printed. No `tests`: all of them."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    command += [f"tests/{test}" for test in tests.split()]
    # No bytecode: Python knows a changed file by its size and its second of change, and a fault may change neither.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the processes too that the tests have started
        process.wait()
        return None, ""
    return process.returncode, printed


def run_rest(folder: Path, done: str) -> tuple[int | None, str]:
    """All tests but those `done` and those that compare source text."""
    ignored = [f"--ignore=tests/{test}" for test in (*SOURCE_TESTS, *done.split())]
    return run_tests(folder, "", "-x", *ignored, limit=SUITE_LIMIT)


def verdict(project: Path, fault: Fault) -> tuple[str, float]:
    """Whether a copy of the project with the fault in it fails a test, and the seconds that took.

    A described fault meets the tests that concern it; if a drawn one passes those, all other tests run too.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        folder = copy_of(project, temporary)
        file = folder / fault.file
        file.write_text(put_in(fault, file.read_text(encoding="utf-8")), encoding="utf-8")
        code, _ = run_tests(folder, fault.tests, "-x")
        if code == 0 and fault.line is not None:
            code, _ = run_rest(folder, fault.tests)
    said = {0: "SURVIVED", None: "caught (time limit)"}.get(code, "caught")
    return said, time.monotonic() - began


def copy_of(project: Path, temporary: str) -> Path:
    return shutil.copytree(project, Path(temporary) / "project", ignore=shutil.ignore_patterns(*NOT_COPIED))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("--only", metavar="WORD", default="", help="described faults that have the word in them")
    parser.add_argument("--stale", action="store_true", help="list the described faults whose code has changed")
    parser.add_argument("--random", type=int, metavar="N", help="draw N faults instead of those that are described")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which faults are drawn (default: 0)")
    parser.add_argument("--room", default="", metavar="FOLDER", help="draw from one folder, such as train/speed")
    args = parser.parse_args()
    if args.random:
        faults = draw(args.random, args.seed, args.room)
    else:
        faults = [fault for fault in FAULTS + HOUSE_FAULTS if args.only.lower() in " ".join(fault[:5]).lower()]
    if not faults:
        sys.exit("error: there is no such fault")
    if complaints := stale(faults):
        sys.exit("error: bring the table in tests/mutants.py up to date:\n" + "\n".join(complaints))
    if args.stale:
        sys.exit()

    texts, missed = list(map(described, faults)), []
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary, ThreadPoolExecutor(2) as pool:
        project = copy_of(ROOT, temporary)  # edits made meanwhile have no effect
        print("the tests without a fault:", end=" ", flush=True)  # a failure means something only if they pass
        every = " ".join(sorted({test for fault in faults for test in fault.tests.split()}))
        code, printed = run_rest(project, "") if args.random else run_tests(project, every, "-x", limit=SUITE_LIMIT)
        if code != 0:
            sys.exit(f"they do not pass (exit code {code})\n{printed[-3000:]}")
        print("they pass", flush=True)
        verdicts = pool.map(partial(verdict, project), faults)
        for k, (text, (said, seconds)) in enumerate(zip(texts, verdicts), start=1):
            print(f"{k:3} of {len(faults)}  {seconds:4.0f} s  {said}: {text}", flush=True)
            missed += [text] if said == "SURVIVED" else []
    print("", *(f"SURVIVED: {text}" for text in missed), sep="\n")
    print(f"{len(faults)} faults, {len(faults) - len(missed)} caught, {len(missed)} survived")
    sys.exit(bool(missed))


def described(fault: Fault) -> str:
    """The fault's place, kind, old and new text, for a person."""
    source = (ROOT / fault.file).read_text(encoding="utf-8")
    line = source.count("\n", 0, start_of(fault, source)) + 1
    return f"{fault.file}:{line}: {fault.breaks}\n  old: {fault.old.strip()}\n  new: {fault.new.strip()}"


if __name__ == "__main__":
    main()
