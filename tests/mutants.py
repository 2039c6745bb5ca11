"""Do the tests notice? Puts one fault at a time into a copy of the project and runs the tests that concern it.

    python -m tests.mutants                  # all of them: about an hour
    python -m tests.mutants --only causal    # those whose file, code or description has the word in it

A test that passes proves little as long as nobody has seen it fail: it may compare a number with itself,
run on data on which right and wrong agree (a gain of 1, a bias of 0, a prompt of one token), or not reach
the line at all. Most faults in a language model raise no error either; the model only writes worse. So
here is a list of such faults, each of one line. A fault that the tests catch is one that cannot come back
unseen; one that survives names a test that is missing. (DeMillo, Lipton and Sayward 1978, "Hints on Test
Data Selection".)

Nothing here touches the project itself. pytest does not collect this file.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NOT_COPIED = (".git", ".venv*", ".ci", ".*_cache", "__pycache__", "runs", "exercises")
TIME_LIMIT = 300  # seconds for one fault; a fault may well lead to a loop without end, and that is noticed too

# What the same tests concern, again and again.
SWEEP = "train/test_train.py::test_the_sweep_is_complete_and_tells_the_story"
KILLED = "train/lasting/test_interruption.py::test_killed_again_and_again_is_the_same_run"
TEAM = "train/test_parallel.py::test_two_processes_train_as_one"
WRONG_INPUT = "train/test_train.py::test_wrong_input"
THE_LOOP = (
    "train/test_train.py::test_the_loop_is_the_definition "
    "train/test_train.py::test_the_exercises_settings_are_the_defaults "
    "train/test_train.py::test_dropout_is_off_unless_the_model_has_one "
    "train/test_train.py::test_a_loss_that_is_no_number_stops_the_loop"
)

# file: {tests that concern it, below tests/: [(what stands there, what the fault makes of it, what that breaks)]}
# What stands there must occur exactly once in the file.
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
            (".softmax(-1)  #", ".softmax(-2)  #", "attention written out: softmax over those who ask"),
            ("is_causal=True", "is_causal=False", "attention is not causal: it sees the future"),
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
            ("[2, seed, row]", "[2, seed]", "all rows have the same luck"),
            ("[2, seed, row]", "[2, row]", "the seed is ignored"),
            ("uniform[:, i]", "uniform[:, 0]", "every token of a row has the same luck"),
            ("model.embed(tokens, start)", "model.embed(tokens)", "the cache reads every token at position 0"),
            ("keys[:, :, start:] = k", "keys[:, :, : k.shape[2]] = k", "cached keys lost"),
            ("values[:, :, start:] = v", "values[:, :, : v.shape[2]] = v", "cached values lost"),
            ("store[..., : self.filled, :]", "store", "empty places are read"),
            ("is_causal=True", "is_causal=False", "tokens of the prompt see the future"),
            ("if start == 0:", "if True:", "a new token sees nothing but itself"),
            ("keys.mT / math.sqrt(q.shape[-1])", "keys.mT", "a new token's scores are not divided"),
            ("[:, -1].clone()", "[:, -1]", "banned tokens are struck out in the model's own memory"),
            ("self.head(model.ln_f(x[:, -1])", "self.head((x[:, -1])", "no last norm in the cached step"),
            ("cached = use_cache and", "cached = not use_cache and", "no cache: every token is read for every new one"),
            ("T + new_tokens - 1 <= block_size", "T + new_tokens - 2 <= block_size", "a cache one token too long"),
            (" and T + new_tokens - 1 <= block_size", "", "the cache used although the window must slide"),
            ("tokens[:, -block_size:]", "tokens[:, -block_size + 1 :]", "sliding window one token short"),
            ("tokens[:, -block_size:]", "tokens[:, :block_size]", "the window does not slide"),
            ("logits.index_fill_(1, banned, -torch.inf)", "pass", "banned tokens are drawn"),
            ("model.eval()", "pass", "dropout while writing"),
            ("model.train()", "pass", "training mode is not put back"),
            ("tokens.clone()", "tokens", "the caller cannot change what was written"),
        ],
        "train/speed/test_speed.py": [
            ("centred_head(weight, weight.dtype)", "weight", "logits of -100 are rounded to bfloat16 as they are"),
            ("torch.promote_types(weight.dtype, torch.float32)", "weight.dtype", "scores are rounded to bfloat16"),
        ],
        "test_device_path.py": [
            ("torch.tensor(banned, dtype=torch.long, device=tokens.device)", "torch.tensor(banned, dtype=torch.long)",
             "what is banned stays on the CPU"),
            ("sample_token(logits.to(exact)", "sample_token(logits", "Apple's GPU is asked for float64, which it has not"),
            ('logits.device.type != "cpu" or ', "", "top-k waits for a GPU at each token"),
        ],
    },
    "model/speed/centred.py": {
        "train/speed/test_speed.py": [
            ("@ weight / len(weight)", "@ weight", "the head is shifted by the sum of its rows"),
            ("torch.sub(exact, mean,", "torch.sub(exact, mean * torch.arange(len(exact))[:, None],",
             "the head is not shifted by one vector for all tokens"),
            ("torch.sub(exact, mean, out=rounded)", "rounded.copy_(exact)", "the head is rounded as it is"),
            ("weight.split(PIECE_ROWS)", "weight.split(PIECE_ROWS)[:1]", "only the first piece is done"),
            ("itemsize > 2", "itemsize > 4", "a float32 head is copied for nothing"),
        ],
    },
    "model/speed/packed.py": {
        "model/test_sampling.py": [
            ("self.weight, self.bias, *self", "self.weight, None, *self", "no bias"),
            ('("gelu", [], "tanh")', '("gelu", [], "none")', "the exact GELU in packed layers"),
            ("gelu=True", "gelu=False", "no GELU in packed layers"),
            ("packed = copy(module)", "packed = module", "the model itself is packed"),
            ("weight.dtype == torch.float32", "True", "float64 is packed, which no library does"),
        ],
    },
    "model/pretrained.py": {
        "model/test_pretrained.py": [
            ('("attn.c_attn.weight", ', "(", "attn.c_attn not transposed"),
            ('"attn.c_proj.weight", ', "", "attn.c_proj not transposed, which raises no error"),
            ('"mlp.c_fc.weight", ', "", "mlp.c_fc not transposed"),
            (', "mlp.c_proj.weight")', ")", "mlp.c_proj not transposed"),
            ("tensor.t() if name in linear and transposed else tensor", "tensor", "no weight transposed on loading"),
            ("(p.detach().t() if name.endswith(TRANSPOSED) else p.detach())", "p.detach()", "not transposed on saving"),
            ("name: (p.detach()", 'f"transformer.{name}": (p.detach()', "saved names get a prefix"),
            (r"\.attn\.(bias|masked_bias)", r"\..*(bias|masked_bias)", "biases taken for masks"),
            ("(bias|masked_bias)", "bias", "one of the two masks is not known"),
            ('PREFIX.sub("", stored_name)', "stored_name", "prefixes are not removed"),
            ('"^((transformer|', '"((transformer|', "a prefix is looked for in the middle of a name"),
            (r"module)\.)+", r"module)\.)", "one prefix only is removed"),
            ("transposed = not all(", "transposed = True or all(", "PyTorch's own linear layers are turned round"),
            ("max(a.dtype, b.dtype, key", "min(a.dtype, b.dtype, key", "a rounded head is another head"),
            ("    if not a.is_floating_point():\n", "    if False:\n", "a head of whole numbers ends in a traceback"),
            ('if not weight.sum().isfinite()]', "if False]", "weights that are no numbers are accepted"),
            (" and {len(names) - 1} more", "", "nobody is told how much more is wrong"),
            ("<= sizes[ours] <= most:", "<= sizes[ours]:", "sizes without end are tried"),
            ('!= "gpt2":', '== "":', "another kind of model is taken for a GPT-2"),
            ("or not 0 < epsilon < 1:", "or not epsilon < 1:", "an epsilon below zero is accepted"),
            ("if head is not None and not equal_when", "if False and not equal_when", "an untied head is accepted"),
            ("unknown.append(stored_name)", "pass", "unknown tensors are accepted"),
            (" and name not in found:", ":", "a tensor that is there twice is accepted"),
            ("[name for name in expected if name not in found]", "[]", "missing tensors are not named"),
            ("tensor.shape != stored[name] or ", "", "wrong shapes are not named"),
            (" or not tensor.is_floating_point()", "", "weights of whole numbers are accepted"),
            ("tensor.to(torch.float32, memory", "tensor.to(tensor.dtype, memory", "float16 stays float16"),
            ("memory_format=torch.contiguous_format, ", "", "transposed weights are not laid out anew"),
            ('if sizes["n_embd"] % sizes["n_head"]:', "if False:", "a width that heads do not divide is accepted"),
            ("1 <= sizes[ours]", "0 <= sizes[ours]", "zero layers are accepted"),
            ('("gelu_new", "gelu_pytorch_tanh")', '("gelu_new", "gelu")', "a model with the exact GELU is accepted"),
            ('"n_inner": (None, ', '"n_inner": (None, raw.get("n_inner"), ', "another width of the MLP is accepted"),
            ('"scale_attn_weights": (True,)', '"scale_attn_weights": (True, False)', "unscaled attention is accepted"),
            ("by_inverse_layer_idx\": (False,)", "by_inverse_layer_idx\": (False, True)", "other scaling is accepted"),
            ('"add_cross_attention": (False,)', '"add_cross_attention": (False, True)', "cross attention is accepted"),
            ('"tie_word_embeddings": (True,)', '"tie_word_embeddings": (True, False)', "an untied config is accepted"),
            ('raw.get("layer_norm_epsilon", 1e-5)', "1e-5", "the file's epsilon is not read"),
            ('"config.json", dropout=dropout)', '"config.json")', "the dropout asked for is ignored"),
            ('"gelu_new",  # the tanh', '"gelu",  # the tanh', "saved as a model with the exact GELU"),
            ('.to("cpu", dtype)', '.to("cpu")', "saved in float32 whatever was asked"),
            ('shutil.copymode(folder / "config.json", part)', "pass", "only its owner can read a saved model"),
        ],
    },
    "model/speed/empty.py": {
        "model/test_pretrained.py": [
            ("GPT2(config).eval()", "GPT2(config)", "a loaded model is in training mode"),
        ],
    },
    "model/hub.py": {
        "model/test_hub.py": [
            ("if found != sha256:", "if False:", "the checksum is not compared"),
            ('if stamp.is_file() and stamp.read_text(encoding="utf-8") == mark:', "if False:",
             "the checksum is made every time"),
            (' and stamp.read_text(encoding="utf-8") == mark:', ":", "a file that changed is not checked again"),
            ("get_hf_file_metadata(hf_hub_url(repository", "dict(url=hf_hub_url(repository", "no quick question first"),
            ("local_files_only=True", "local_files_only=False", "the hub is asked although all is in the cache"),
            ("blob if len(blob) == 64 else None", "None", "the hub's own checksum is not used"),
            ("fetch(str(name_or_folder), source", 'fetch("gpt2", source', "another name than the one asked for"),
            ("None if Path(name).exists() else ", "", "a folder is taken for a model of the hub"),
            ("revision=revision, **options", "**options", "the revision asked for is not fetched"),
            ('found[2] or "main"', '"main"', "the revision asked for is forgotten"),
            (', (repository.split("/")[1], "main")]', "]", "what was cached under the old name is not found"),
            ("any(Path(name).name != name for name in names)", "False", "shards lead out of their folder"),
            ("            locate(shard)\n", "            pass\n", "the shards are not fetched"),
            (" else RemoteEntryNotFoundError\n", " else ()\n", "what lies in shards is not found"),
            (", ImportError) as error", ") as error", "a SOCKS proxy ends in a traceback"),
            ("    weight_files(folder)\n    return folder", "    return folder", "a folder without weights"),
            ("except RuntimeError:", "except KeyError:", "without a home there is no model"),
        ],
        "model/test_pretrained.py " + WRONG_INPUT: [
            ('if not (folder / "config.json").is_file():', "if False:", "a folder without config.json"),
            ('if (folder / "pytorch_model.bin").is_file():', "if False:", "nobody is told what a pickle is"),
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
            ("START_TOKENS = 3", "START_TOKENS = 2", "start tokens are drawn with the luck of the writing"),
            ("[purpose, *seed]", "[purpose, *seed[:1]]", "every batch is the first"),
        ],
    },
    "data/book.py": {
        "data/test_data.py": [
            ('return "" if END.search(text) else', 'return "" if True else', "a book that breaks off is kept"),
            ("text, doubts = cut_frame(re", "text, doubts = (lambda text: (text, []))(re", "the frame is not cut"),
            (r"\r*\n|\r", r"\r*\n", "CR alone, of old Macs, is no line end"),
            (r"\r*\n|\r", r"\r?\n|\r", "CR CR LF are two line ends"),
            ("        notes += doubts\n", "", "nobody is told of a doubtful frame"),
            ('if "\\0" in text:', "if False:", "UTF-16 without a mark is trained on"),
            ('.encode("utf-8", "replace").decode("utf-8")', "", "a name that cannot be written ends a run"),
            ("if not file.exists() or file.is_dir():", "if not file.is_file():", "a pipe is no text"),
            ('"utf-8-sig"', '"utf-8"', "the byte-order mark is kept"),
            ("if not raw:", "if True:", "--raw-text is ignored"),
            ("sha256 != GULLIVER_SHA256", "sha256 == GULLIVER_SHA256", "the note on another edition: never or falsely"),
            ("if not text.strip():", "if False:", "an empty text is accepted"),
            ("if not START.search(text):", "if False:", "a page that is not the book is called one that breaks off"),
        ],
    },
    "data/frame.py": {
        "data/test_data.py": [
            ("else 1]", "else 2]", "of two short books the first is cut off"),
            ("len(text) - FOOT))]", "0))]", "a quoted end cuts the rest away"),
            ("START.finditer(text, 0, HEAD)", "START.finditer(text)", "a quoted marker cuts the book in two"),
            ("ends[-1] - end < CLOSE", "ends[-1] == end", "of two ends the earlier one stays"),
            ("if bool(starts) != bool(ends):", "if False:", "half a frame is cut unseen"),
            ('"gutenberg" not in text[', '"" not in text[', "what is no header is cut unseen"),
            (".strip()\n    if left", "\n    if left", "blank lines at both ends are kept"),
            (r"(?:THE |THIS )?", r"(?:THE )", "the frame of older files is not known"),
            ("THE SMALL PRINT!", "SMALL PRINT!", "the small print of the 1990s is kept"),
        ],
    },
    "data/files.py": {
        "data/test_files.py": [
            ("        fsync(temporary)\n        os.replace(temporary, file)\n",
             "        os.replace(temporary, file)\n        fsync(file)\n", "renamed before it has reached the disk"),
            ('file.with_name(f".tmp-{os.getpid()}-{file.name}")', "file", "the old file is written over"),
            ("raise OSError(str(error)) from None", "raise", "a full disk is a traceback"),
            ("temporary.unlink(missing_ok=True)", "pass", "a failed write leaves a temporary file"),
        ],
    },
    "data/download.py": {
        "data/test_data.py": [
            ("    if file.is_file():", "    if False:", "the book is fetched every time"),
            ("    except RuntimeError:", "    except KeyError:", "who has no home folder gets a traceback"),
            ('{"User-Agent": USER_AGENT}', "{}", "the request does not say who asks"),
            ("except (OSError, HTTPException)", "except OSError", "a connection that breaks is no error of one line"),
        ],
    },
    "train/pretrain/bpe.py": {
        "train/pretrain/test_bpe.py": [
            ("heapq.heappop(heap)", "heap.pop(heap.index(min(heap, key=lambda entry: entry[0])))",
             "ties depend on the order of the texts"),
            ("pair_counts[pair] += counts[i]", "pair_counts[pair] += 1", "a word counts once, however frequent"),
            ("pair_counts[old] -= counts[i]", "pair_counts[old] -= 1", "joined pairs are not taken off the counts"),
            ("pair_counts[pair] != -negative_count or ", "", "outdated counts are believed"),
            ("while len(merges) < vocab_size - 257", "while len(merges) < vocab_size - 256", "a merge too many"),
            ("if vocab_size < 257", "if vocab_size < 256", "no room for the end of text"),
            ("(word[i], word[i + 1]) == pair", "(word[i], word[i + 1]) == pair != tuple(word[i + 1 : i + 3])",
             "of a run aaaa only the last pair is joined"),
            ("counts.update(pattern.findall(text))", "counts.update(set(pattern.findall(text)))",
             "a word counts once a text"),
            ('word.encode("utf-8"): count for', 'word.encode("utf-8"): 1 for', "the counts of words are lost"),
            ("regex.compile(WORD_PATTERN)", 'regex.compile(WORD_PATTERN.replace(" ?", ""))',
             "the space is cut off its word"),
        ],
    },
    "data/tokenizer.py": {
        "data/test_data.py": [
            ("if not in_place or None in ranks", "if None in ranks", "a vocabulary with more than its merges is accepted"),
            (" or ranks[256:] != sorted(ranks[256:])", "", "merges in another order than their ids are accepted"),
            ("            raise FileNotFoundError(f\"{folder} has no tokenizer", "            raise KeyError(f\"{folder} has no tokenizer",
             "a missing file is called damaged"),
            ("{END_OF_TEXT: vocab[END_OF_TEXT]}", "{END_OF_TEXT: len(in_order)}", "the end of text is always the last id"),
            ('or content.get("normalizer"):', "or False:", "a tokenizer that changes the text is accepted"),
            ("words.get(name, True)", "gpt2s[name]", "a tokenizer that cuts words otherwise is accepted"),
            (" if token not in added}", "}", "an added token is one of the vocabulary"),
            ("chr(256 + i)", "chr(256 + byte)", "not GPT-2's alphabet of bytes"),
            ("run.end(), LONG)", "run.start(), LONG)", "a million blanks end in a panic"),
            (r"| ?\p{L}+|", r"|\p{L}+|", "the space is cut off its word"),
            (' and not line.startswith("#version")', "", "the version line is taken for a merge"),
        ],
    },
    "train/pretrain/corpus.py": {
        "test_fuzz.py": [
            ("    texts = dict(read_corpus(corpus))\n", "    folder.mkdir(parents=True)\n    texts = dict(read_corpus(corpus))\n",
             "a folder is made for a corpus that is not there"),
        ],
        "train/pretrain/test_bpe.py": [
            ('entry.get("id", number)', "number", "texts lose their names"),
            ("if not number:", "if False:", "an empty corpus is accepted"),
        ],
        "train/pretrain/test_pretrain.py": [
            (" if n not in held_out]", "]", "held-out texts are trained on"),
            ("if changes := differences(wanted, found):", "if False:", "another corpus or recipe goes on"),
        ],
    },
    "train/adamw.py": {
        "train/test_adamw.py": [
            ("add_(g, alpha=1 - beta1)", "add_(g + self.weight_decay * p, alpha=1 - beta1)",
             "decay coupled: it enters the first moment"),
            ("p.mul_(1 - self.lr * self.weight_decay)", "p.mul_(1 + self.lr * self.weight_decay)", "decay grows"),
            ("p.mul_(1 - self.lr * self.weight_decay)", "p.mul_(1 - self.weight_decay)", "decay without the rate"),
            ("value=-1", "value=-1 + self.lr * self.weight_decay", "decay after the step, not before"),
            ("1 - beta**self.steps", "1 - beta ** (self.steps + 1)", "bias corrections off by one step"),
            ("*corrections)", "*corrections[::-1])", "the bias corrections swapped"),
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
    "train/speed/chunked_loss.py": {
        "model/test_gpt2.py": [
            ("(1, target, -sums)", "(1, target, sums)", "the one-hot has the wrong sign"),
            (".mul_(1 / (N * sums))", ".mul_(1 / sums)", "the gradient is a sum, not a mean"),
            (".mul_(1 / (N * sums))", ".mul_(1 / N)", "powers taken for the softmax"),
            ("(sums.log() + top - own)", "(sums.log() - own)", "the largest logit is not put back"),
            ("return total / N", "return total", "the loss is a sum, not a mean"),
            ("return x_grad.mul_(loss_grad),", "return x_grad,", "the incoming gradient is ignored, hidden states"),
            ("weight_grad.mul_(loss_grad),", "weight_grad,", "the incoming gradient is ignored, head"),
            ("range(0, N, CHUNK_ROWS)", "range(0, N - N % CHUNK_ROWS, CHUNK_ROWS)", "the last chunk is dropped"),
            ("summed += part @ x[rows]", "summed.copy_(part @ x[rows])", "only the last chunk teaches the head"),
            ("exact = torch.promote_types(dtype, torch.float32)", "exact = dtype", "sums in bfloat16"),
        ],
        "train/speed/test_speed.py": [
            ("range(0, N, CHUNK_ROWS)", "range(0, N, N)", "all logits at once"),
            ("logits.sub_(top).exp_()", "logits.exp_()", "the softmax of logits far from zero is 0 / 0"),
            ("centred_head(weight, dtype)", "weight.to(dtype)", "logits of -100 are rounded as they are"),
            ("gradient.T.split(WORDS)", "gradient.T.split(WORDS)[:1]", "only the first words learn"),
            ("zip(gradient.split(EXACT_ROWS)", "zip(gradient.split(EXACT_ROWS)[:1]", "logits are taken for gradients"),
        ],
    },
    "train/loop.py": {
        "train/speed/test_speed.py": [("return loss.item()", "return loss", "every sample's graph is kept")],
        THE_LOOP: [
            ("optimizer.zero_grad()", "pass", "gradients add up from step to step"),
            ("yield loss", "yield next_token_loss(model, inputs, targets).item()",
             "the loss is measured after the step"),
            ("settings.seq_len, settings.seed, sample)", "settings.seq_len, 0, sample)", "the seed is ignored"),
            ("settings.seed, sample)", "settings.seed, 0)", "every sample has the same batch"),
            ("if not (math.isfinite(loss) and math.isfinite(length)):", "if False:",
             "goes on after the loss is no number"),
            ("model.eval()", "pass", "the model is left in training mode"),
            ("model.train()", "pass", "no dropout although the model has one"),
            ("lr, weight_decay=settings.weight_decay)", "lr)", "weight decay is not passed on"),
        ],
        "train/lasting/test_interruption.py::test_a_gradient_that_is_no_number_stops_the_loop_before_the_step": [
            ("(math.isfinite(loss) and math.isfinite(length))", "math.isfinite(loss)", "a step with a gradient of inf"),
        ],
        "train/lasting/test_interruption.py::test_a_diverged_run_says_where_and_of_what": [
            ("(math.isfinite(loss) and math.isfinite(length))", "math.isfinite(length)", "a loss of NaN is kept"),
            ('"gradient" if math.isfinite(loss) else "loss"', '"loss"', "a gradient that is no number is called a loss"),
        ],
        "train/lasting/test_interruption.py::test_a_keeper_brings_back_all_that_training_depends_on": [
            ("range(optimizer.steps, settings.samples)", "range(settings.samples)",
             "a run that goes on begins with the first batch again"),
        ],
    },
    "train/settings.py": {
        "train/test_train.py::test_the_exercises_settings_are_the_defaults": [
            ("batch_size: int = 16", "batch_size: int = 8", "another batch than the exercise's"),
            ("seq_len: int = 256", "seq_len: int = 128", "another window than the exercise's"),
        ],
    },
    "train/experiment.py": {
        "train/test_experiment.py": [
            ("tokens[: len(tokens) - held_out]", "tokens", "the held-out text is trained on"),
            ("vocab_size=tokenizer.n_vocab, banned=banned", "vocab_size=tokenizer.n_vocab", "texts may end in the middle"),
            ("frequent, sampling, vocab", "frequent, Sampling(), vocab", "the sampling is not that which was asked for"),
            ("lr, training)", "lr, Training(samples=samples))", "further settings are ignored"),
            ("dropout=training.dropout", "dropout=0.0", "dropout is ignored"),
            ("torch.manual_seed(training.seed)", "pass", "dropout does not repeat"),
            (" if len(losses) == samples else None", "", "what diverged is measured"),
        ],
    },
    "train/speed/step.py": {
        "train/speed/test_speed.py": [
            ("model.embed(inputs).to(torch.bfloat16)", "model.embed(inputs)", "the residual stream stays float32"),
            ("(len(inputs[part]) / B)", "(1 / len(range(0, B, micro_batch or B)))", "all parts weigh alike"),
            (" and not model.config.dropout", "", "attention forgets its dropout in bfloat16"),
            (".triu(1)", ".triu(2)", "a position sees the next one"),
            (".triu(1)", ".triu()", "the first position sees nothing"),
            ("alpha=1 / math.sqrt(q.shape[-1])", "alpha=1.0", "scores are not divided"),
            ("    k = k - k.mean(-2, keepdim=True)\n", "", "what all keys have in common is rounded with every score"),
            ("block(x, self.attend)", "block(x)", "PyTorch's attention, whose products are slow in bfloat16"),
        ],
        "test_device_path.py": [
            ('x.device.type == "cpu" and ', "", "a GPU attends a window at a time"),
            ("losses.append(loss.detach())", "losses.append(loss.detach().cpu())", "each part of a batch waits for a GPU"),
        ],
    },
    "train/lasting/run.py": {
        "train/test_train.py::test_compile_compiles_adamw_and_changes_nothing_else": [
            ("CompiledAdamW if training.compile else FastAdamW", "FastAdamW", "--compile does nothing"),
            ("CompiledAdamW if training.compile else FastAdamW", "CompiledAdamW", "compiled without being asked"),
        ],
        "train/test_train.py::test_a_compiler_is_missed_before_anything_is_written": [
            ("        check_compiler()\n", "        pass\n", "the compiler is missed after the base model was measured"),
            ('if training.compile and machine.device.type != "cpu":', "if False:", "a GPU compiles a kernel for each tensor"),
        ],
        SWEEP: [
            ("kind(model.parameters(), lr=lr,", "kind(model.parameters(), lr=1e-4,",
             "every learning rate is the same one"),
            ("    model = fresh_model(plan)\n    torch",
             '    model = vars(plan.setup).setdefault("kept", fresh_model(plan))\n    torch',
             "a learning rate goes on where the one before ended"),
        ],
        "train/test_train.py": [
            ("lr=lr, weight_decay=training.weight_decay)", "lr=lr)", "--weight-decay is ignored"),
            ("dropout=plan.training.dropout)", "dropout=0.0)", "--dropout is ignored"),
            ("torch.manual_seed(job.seed)", "pass", "dropout does not repeat"),
            ("if diverged is None and not yardstick.finds_sound(model):", "if False:", "a diverged model is saved"),
            ("training.seq_len > setup.config.block_size", "False", "windows longer than the context"),
            ("len(setup.training_tokens) <= training.seq_len", "len(setup.training_tokens) < training.seq_len",
             "a text one token shorter than a window"),
        ],
        KILLED: [
            ("if optimizer.steps == training.samples or keeper.due():", "if keeper.due():",
             "training that is complete is not saved before the evaluation"),
            ("saved = keeper.save(record)", "saved = True", "Ctrl-C does not save"),
            ("with signals.deferred(), Progress(", "with Progress(", "a signal cuts an optimizer step in two"),
            ('record["train_loss"].append(loss)', 'record["train_loss"] = [*record["train_loss"], loss][-4:]',
             "the loss history is not saved"),
        ],
        "train/lasting/test_interruption.py::test_other_settings_do_not_go_on": [
            ("    write_json(job.folder / IDENTITY_FILE, job.identity)\n", "",
             "a run that has no state yet is not recognised"),
            ("    for job in jobs:\n        check_job(job)\n", "", "another run's folder is written to"),
        ],
        "train/lasting/test_interruption.py::test_a_sweep_does_only_what_is_missing": [
            ("        check_neighbours(folder, common)", "        pass", "runs of other settings share a table"),
        ],
        "train/lasting/test_interruption.py::test_too_small_a_disk_is_found_before_anything_is_written": [
            ("    check_room(folder, plan.setup, to_do, plan.save_model,",
             "    len((folder, plan.setup, to_do, plan.save_model)) or dict(",
             "a disk too small is found when it is full"),
        ],
        "train/lasting/test_interruption.py::test_a_finished_run_is_not_repeated": [
            ("model if after and plan.save_model else None", "model if after else None", "--no-save-model is ignored"),
        ],
        "train/lasting/test_progress.py": [
            ("return max(AT_LEAST, samples // MEASUREMENTS)", "return max(1, samples // MEASUREMENTS)",
             "a trial is measured after every sample"),
            ("(FULL_EVERY * every) == 0", "(FULL_EVERY * every) >= 0", "all is measured every time"),
            ("    if done == samples:\n", "    if False:\n", "the last sample is measured twice"),
            ("        print(summed_up(job.label, result), flush=True)\n", "        pass\n", "no line sums up a run"),
        ],
    },
    "model/answer.py": {
        "model/test_answer.py": [
            ("or [tokenizer.eot_token]", "or [0]", "without a prompt it begins after a byte"),
            ("first_row=row", "first_row=0", "all texts have the same luck"),
            ('errors="replace")\n    show(prompt)', 'errors="ignore")\n    show(prompt)', "half a character is lost unseen"),
            ("if sys.stdout.isatty():", "if False:", "what a model writes commands the terminal"),
        ],
    },
    "model/__main__.py": {
        "model/test_answer.py": [
            ("banned=never_drawn(tokenizer, config)", "banned=[]", "another text may begin"),
            ('removesuffix("\\n")', 'removesuffix("")', "the prompt ends in a line end"),
            ("top_k=args.top_k or None", "top_k=None", "--top-k is ignored"),
        ],
    },
    "train/lasting/card.py": {
        "train/lasting/test_card.py": [
            ('license="mit" if of_openai else "unknown"', 'license="mit"', "a licence is claimed for anybody's model"),
            ('language="en" if settings["text"] in TEXTS else None', 'language="en"', "any text is English"),
            ('TEXTS.get(settings["text"], "whose', '("whose', "Swift's book is nobody's"),
            ("[:3]", "[:2]", "the table's row is left out"),
        ],
    },
    "train/lasting/progress.py": {
        "train/lasting/test_progress.py": [
            ("leave=False, disable=None)", "leave=False)", "bars in a file"),
            ("if self.bar.disable:", "if False:", "no line off a terminal"),
            ("if self.bar.disable:", "if True:", "lines through a bar"),
            ("        self.losses.clear()\n", "", "the training loss since the start"),
            ("(self.done - self.first) *", "self.done *", "the time left as if samples of an earlier start were of this"),
        ],
    },
    "train/flags.py": {
        "train/lasting/test_progress.py": [
            ("if args.sequences is None:", "if True:", "--eval-sequences is ignored"),
            ("args.samples < TRIAL else", "args.samples <= TRIAL else", "the demo is a trial"),
        ],
    },
    "train/lasting/outcome.py": {
        SWEEP: [
            ('"before": yardstick.before,', '"before": after or yardstick.before,', "before is measured on the trained model"),
        ],
        KILLED: [
            ("for name in (STATE_FILE, IDENTITY_FILE):", "for name in (IDENTITY_FILE,):", "the state is never deleted"),
        ],
        "train/lasting/test_card.py": [
            ("    except Exception as error:  # whatever", "    except OSError as error:  # whatever", "a run is lost to its caption"),
        ],
    },
    "train/lasting/folder.py": {
        "train/test_train.py": [
            ("any(is_foreign(path, sweep) for path in folder.iterdir())", "False", "a folder in use is written to"),
            ("(run_folder / name).unlink(missing_ok=True)", "pass", "--overwrite does not delete"),
            ("for name in (*WRITTEN, *([CARD_FILE] if has_run(run_folder) else [])):",
             "for name in [file.name for file in run_folder.glob('*.*')]:", "--overwrite deletes what is not its own"),
        ],
        "train/lasting/test_card.py": [
            ("[CARD_FILE] if has_run(run_folder) else []", "[CARD_FILE]", "--overwrite deletes somebody's README.md"),
            ("        return not has_run(path.parent)\n", "        return False\n", "a folder with somebody's README.md is taken"),
        ],
        "train/lasting/test_interruption.py::test_other_settings_do_not_go_on": [
            ('"text_sha256": setup.book.sha256', '"text_sha256": None', "another text under the same name"),
        ],
        "train/lasting/test_interruption.py::test_too_small_a_disk_is_found_before_anything_is_written": [
            ("needed = 2 * state * min", "needed = state * min", "room for the new state, not the old"),
        ],
        "train/lasting/test_interruption.py::test_a_sweep_does_only_what_is_missing": [
            ("names = (seeded, plain) if several_seeds else (plain, seeded)",
             "names = (seeded,) if several_seeds else (plain,)",
             "a run is repeated under another name"),
        ],
        "train/lasting/test_interruption.py::test_what_a_folder_may_hold": [
            ("        tidy(run_folder)\n", "", "--overwrite leaves unfinished files"),
        ],
    },
    "train/lasting/state.py": {
        "train/lasting/test_interruption.py::test_other_settings_do_not_go_on": [
            ("if wanted.get(name) != found.get(name)]", "if name == 'lr' and wanted.get(name) != found.get(name)]",
             "settings are not compared"),
        ],
        "train/lasting/test_interruption.py::test_every_bit_of_a_state_is_checked": [
            ("if checksum(tensors, metadata", "if False and checksum(tensors, metadata", "the checksum is not checked"),
            ("digest.update(tensor.reshape(-1).view(torch.uint8).numpy())", "pass",
             "the checksum leaves the numbers out"),
            ('hashlib.sha256(text.encode("utf-8"))', "hashlib.sha256()", "the checksum leaves the step out"),
        ],
    },
    "train/lasting/keeper.py": {
        "train/lasting/test_interruption.py::test_when_the_next_state_is_due": [
            ("max(60.0, 50 * took)", "max(60.0, 40 * took)", "saving takes more than 2 % of the time"),
        ],
        "train/lasting/test_interruption.py::test_a_keeper_brings_back_all_that_training_depends_on": [
            ('"m": self.optimizer.m, "v": self.optimizer.v}', "}", "going on without the moments"),
            ('"v": self.optimizer.v}', '"v": self.optimizer.m}', "the second moment is the first"),
            ("self.optimizer.steps = self.saved_steps = info", "self.saved_steps = info", "going on without the step"),
            ('torch.set_rng_state(tensors["rng.cpu"])', "pass", "going on with other dropout"),
            ('if info.get("identity") != self.identity:', "if False:", "another run's state is taken"),
        ],
        "train/lasting/test_interruption.py::test_a_full_disk_costs_the_state_and_not_the_run": [
            ("        except OSError as error:", "        except KeyError as error:", "a failed save ends the run"),
        ],
        "test_device_path.py": [
            ('rng["rng.cuda"] = torch.cuda.get_rng_state(device)', "pass", "going on with other dropout on a GPU"),
        ],
    },
    "train/lasting/claim.py": {
        "train/lasting/test_interruption.py::test_a_run_that_another_process_has": [
            ("            lock(opened)\n", "            pass\n", "the lock is not taken"),
            ("                file.unlink()", "                pass", "the lock file stays"),
            ("{os.getpid()} on", "{os.getppid()} on", "the wrong process is named as the holder"),
        ],
        "train/lasting/test_interruption.py::test_a_lock_on_a_deleted_file_is_no_claim": [
            ("if os.path.samestat(os.fstat(opened.fileno()), os.stat(file)):", "if True:",
             "a lock on a file that is gone is taken for a claim"),
        ],
    },
    "train/lasting/interruption.py": {
        "train/lasting/test_interruption.py::test_a_terminal_that_closes_is_a_signal_and_nohup_is_heeded": [
            ("if signal.getsignal(number) != signal.SIG_IGN]", "]", "nohup is not heeded"),
            ('NAMES[signal.SIGHUP] = "SIGHUP"', "pass", "a terminal that closes ends a run without its state"),
        ],
        "train/lasting/test_interruption.py::test_a_signal_waits_only_in_training": [
            ("if self.waits and (", "if (", "a signal outside training waits for ever"),
        ],
        "evaluate/test_flags.py::test_a_run_outlives_the_reader_of_its_lines": [
            ("        except OSError:  # a pipe", "        except KeyError:  # a pipe", "`| head` ends a sweep"),
        ],
        KILLED: [
            ("sys.exit(128 + interrupted.number)", "sys.exit(1)", "the exit code does not tell of a signal"),
        ],
    },
    "train/parallel.py": {
        "train/test_parallel.py::test_no_window_of_a_batch_is_left_out_or_done_twice": [
            ("slice(rank * B // size, (rank + 1) * B // size)", "slice(rank * (B // size), (rank + 1) * (B // size))",
             "the last windows of a batch are nobody's"),
        ],
        TEAM: [
            ("own = part_of(len(inputs), rank, size)", "own = part_of(len(inputs), 0, size)", "all take the first part"),
            ("weight = (own.stop - own.start) / len(inputs)", "weight = 1 / size",
             "all processes weigh alike, whatever their windows"),
            ("        dist.all_reduce(loss)\n", "", "each process reports the loss of its own part"),
            ("*optimizer.m, *optimizer.v)", "*optimizer.m)", "the others go on without the second moments"),
            ("optimizer.steps = agree(optimizer.steps if rank == 0 else 0)", "agree(0)",
             "the first process shares no step"),
        ],
        "train/test_parallel.py::test_who_waits_says_for_whom_every_half_minute_and_hears_signals": [
            ("if poll % POLLS_PER_MESSAGE == 0:", "if poll == 0:", "who waits says so once and then is silent"),
        ],
        "train/test_parallel.py::test_every_process_of_a_machine_has_its_own_gpu": [
            ("% torch.cuda.device_count()", "", "more processes than GPUs"),
        ],
    },
    "train/sweep.py": {
        "train/test_train.py": [
            ("if len(set(args.lrs)) < len(args.lrs):", "if False:", "a learning rate given twice"),
            ("type=partial(positive_int, most=1000),", "type=positive_int,", "a list of a milliard runs"),
        ],
    },
    "train/lasting/jobs.py": {
        "train/test_parallel.py::test_who_does_which_run_and_who_waits": [
            ("offset = rank % len(jobs)", "offset = 0", "all processes begin at the same run"),
            ("        if not mine and rank > 0:", "        if not mine:",
             "the report before the other runs are finished"),
        ],
        "train/test_parallel.py::test_processes_share_the_runs_of_a_sweep": [
            ("        if rank == 0:\n            report(folder)", "        report(folder)",
             "every process writes the report"),
        ],
    },
    "train/pretrain/pretraining.py": {
        "train/pretrain/test_pretrain.py": [
            ("peak * (step + 1) / warmup", "peak * step / warmup", "the first step has a rate of zero"),
            ("(steps - start))", "steps)", "the rate does not fall to zero"),
            ("if not (loss.isfinite() and length.isfinite()):", "if not loss.isfinite():", "a model of no numbers is written"),
            ("clip_grad_norm_(model.parameters(), recipe.clip)", "clip_grad_norm_(model.parameters(), 1e9)", "gradients of any length"),
            ("record = keeper.restore()", "record = None", "a state that is there is not gone on from"),
            ('if "identity" not in info:', "if False:", "a state of an earlier version ends in a traceback"),
            (" / math.log(2)", "", "nats are called bits"),
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
            ("first_row=first,", "first_row=0,", "every group has the same luck"),
            ("banned=banned,", "", "banned tokens are drawn"),
            ("temperature=sampling.temperature,", "", "the temperature is ignored"),
            ("top_k=sampling.top_k or None,", "", "top-k is ignored"),
            ("sampling.top_k or None", "sampling.top_k", "a top-k of 0 is not all"),
            ("bootstrap_interval(shares.numpy(), sampling.seed)",
             "bootstrap_interval(torch.isin(tokens[:, 1:], torch.tensor(frequent)).double().flatten().numpy())",
             "the interval is over tokens, not texts"),
            ("[0.025, 0.975]", "[0.05, 0.95]", "an interval of 90 %"),
        ],
    },
    "evaluate/measures/style.py": {
        "evaluate/measures/test_style.py": [
            ("float(plain - bias)", "float(plain)", "few texts look far from the book"),
            ("- 2 * bias", "- bias", "the interval stands about what it should not"),
        ],
    },
    "evaluate/measures/copying.py": {
        "evaluate/measures/test_copying.py": [
            ("more = range(LEAST,", "more = range(1,", "chance counts as copying"),
            ("max(LEAST, lengths.max()) + 1)", "LEAST + 1)", "what the author repeats counts as copied"),
            (".mean() <= BY_THE_AUTHOR", ".mean() <= 0", "one run of the author's allows all shorter ones"),
        ],
    },
    "evaluate/measures/measure.py": {
        "evaluate/measures/test_measure.py": [
            ("temperature=SHOWN_TEMPERATURE", "temperature=reference.sampling.temperature",
             "the shown texts are drawn as the counted ones"),
            ("continuations_of(reference, rounded, PROMPTS_ON_THE_WAY)", "continuations_of(reference, rounded)",
             "all prompts are continued on the way"),
        ],
    },
    "evaluate/measures/ngram.py": {
        "train/pretrain/test_pretrain.py": [
            ("self.discount * kind * shorter", "self.discount * shorter", "discounted once, however many kinds"),
            ("np.where(seen, discounted / np.maximum(total, 1), shorter)", "discounted / np.maximum(total, 1)",
             "nothing is likely after a context never seen"),
        ],
    },
    "evaluate/loss.py": {
        "evaluate/test_evaluate.py": [
            ('reduction="sum"))', ') * (len(tokens) - 1) / len(groups))', "a mean of the batches' means"),
            ("if len(whole) < len(starts):", "if False:", "the last, shorter window is dropped"),
            ("/ (len(tokens) - 1)", "/ len(tokens)", "divided by one token too many"),
        ],
    },
    "evaluate/results.py": {
        "evaluate/report/test_report.py": [
            ("if own_terms(result):\n        return", "if True:\n        return", "a ratio with top-k stands alone"),
        ],
        "train/lasting/test_progress.py": [
            ("key=lambda pair: pair[1])", "key=lambda pair: -pair[1])", "the highest held-out loss as the lowest"),
        ],
        "evaluate/test_evaluate.py": [
            ("indent=1, allow_nan=False", "indent=1", "NaN in a JSON file"),
            ('if result.pop("sha256", None) != digest(result):', 'if result.pop("sha256", None) is None:',
             "a result damaged by hand ends in a traceback"),
            (", sort_keys=True", "", "a result that was only laid out differently counts as damaged"),
            ('ValueError, AttributeError, TypeError, RecursionError) as error', 'ValueError, TypeError, RecursionError) as error',
             "a result that is a bare number is a traceback"),
            ('max(result["least_copy"] for', 'min(result["least_copy"] for', "the shortest copy of all runs is named"),
            ('return result["settings"]["text_sha256"], ', 'return result["settings"]["text"], ', "a text is known by its path"),
            ('["text_sha256"], result["settings"]["raw_text"]', '["text_sha256"], False', "as served and cut are one text"),
            ('-result["lr"]', 'result["lr"]', "the smallest learning rate first"),
            ("if len(found) > 1:", "if False:", "two models in one figure"),
            ("if missing := Result.__required_keys__ - result.keys():", "if missing := ():", "any JSON file passes for a result"),
            ("len(losses) // 10)", "len(losses) // 5)", "the last loss is over a fifth of the samples"),
            ('exp_digits=1).replace("e+", "e")', "exp_digits=2)", "learning rates as 1e-04"),
            ('np.array(second[key]) - np.array(first[key])',
             'np.array(first["shares"]) - np.array(second["shares"])', "differences with the wrong sign"),
            ("bootstrap_interval(difference)", 'bootstrap_interval(second["shares"] - np.sort(first["shares"]))',
             "the interval of the difference is not paired"),
        ],
    },
    "evaluate/table.py": {
        "evaluate/test_evaluate.py": [
            ("if low > 0 or high < 0:", "if True:", "noise is called a change"),
            ("if low > 0 or high < 0 else", "if True else", "noise is called a difference"),
            ('result["book_ratio"]) < abs(', 'result["book_ratio"]) > abs(', "nearer and farther swapped"),
            ('result["before"]["untruncated_ratio"], result["after"]["untruncated_ratio"]',
             'result["before"]["ratio"], result["after"]["ratio"]', "a ratio with top-k is held against the book's"),
            ("sorted(results, key=final_loss)", "results", "the losses are not ranked"),
        ],
    },
    "evaluate/report/chance.py": {
        "evaluate/test_evaluate.py": [
            ('paired_difference(other["after"], one["after"])', 'paired_difference(one["after"], other["after"])',
             "learning rates compared the wrong way round"),
            ('if low > 0 or high < 0 else "within"', 'if True else "within"', "noise is called a difference"),
            ("np.std(values, ddof=1)", "np.std(values)", "two seeds seem to scatter less than they do"),
            ("/ (2 * 1.96)", "/ 2", "the writing seems to scatter twice as much"),
            ("if v.lr == lr and v.seed is not None", "if v.lr == lr", "a verdict counts once more than there are seeds"),
        ],
    },
    "evaluate/report/plots.py": {
        "evaluate/test_evaluate.py": [
            ('(-0.2, "before"), (0.2, "after")', '(-0.2, "after"), (0.2, "before")', "before and after swapped"),
            ("round(2 * math.log10(lr)) % len(COLOURS)", "len(places)", "colours by rank, other ones in each figure"),
            ("i + half + 1]", "i + 1]", "a running mean that lags behind"),
            ("min(width // 2, i)", "width // 2", "a running mean that does not begin at the first loss"),
            ('max(len(result["train_loss"]) for result in results)', 'min(len(result["train_loss"]) for result in results)',
             "one run that ended early takes the smoothing from all"),
            ("np.arange(1, len(losses) + 1)", "np.arange(len(losses))", "samples count from 0"),
            ("ax.axhline(book,", "ax.axhline(0.5,", "the book's line is elsewhere"),
            ("[max(0.0, ratios[0] - low)], [max(0.0, high - ratios[0])]",
             "[max(0.0, high - ratios[0])], [max(0.0, ratios[0] - low)]",
             "intervals upside down"),
            ('run[when]["untruncated_ratio"] for run in runs', 'run[when]["ratio"] for run in runs',
             "a ratio with top-k is marked as one without"),
            ("sorted(set(lrs), reverse=True)", "sorted(lrs, reverse=True)", "seeds change the colours"),
            ("ax.set_ylim(top=loss_limit(results)", "ax.set_ylim(top=None", "what exploded flattens all others"),
            ("ylim=(base - 1.15 * depth, base + depth), ", "", "a run that is spoilt hides the turn of another"),
            (", len(ended) > 1),", ", True),", "a figure of a single dot"),
            ('any(len(path(r, "copied")) > 1 for r in copying)', "copying", "dots for copying before any training"),
        ],
    },
    "evaluate/report/figures.py": {
        "evaluate/test_evaluate.py": [
            ('ylim=(0, max(5.0', 'ylim=(-0.5, max(5.0', "less than nothing is copied"),
            ("measured[np.abs(measured - number).argmin()]", "number", "ticks where nothing was measured"),
            ("bbox_to_anchor=(0.0, 1.0)", "bbox_to_anchor=(0.0, 0.5)", "the legend hides lines"),
        ],
    },
    "evaluate/setup.py": {
        "train/test_train.py": [
            ("if not 0 <= config", "if not config", "a tokenizer of another model"),
            ("[tokenizer.eot_token, *range(tokenizer.n_vocab, config.vocab_size)]", "[tokenizer.eot_token]",
             "rows that stand for no text are drawn"),
            ("frequent_tokens: int = 100", "frequent_tokens: int = 99", "the 99 most frequent"),
            ("return self.tokens[: len(self.tokens) - self.held_out]", "return self.tokens", "trains on it all"),
            ("return self.tokens[len(self.tokens) - self.held_out :]", "return self.tokens",
             "the held-out text is the whole"),
        ],
    },
    "evaluate/flags.py": {
        "train/test_train.py": [
            ("math.isfinite(value) and value > 0", "math.isfinite(value) and value >= 0", "a learning rate of zero"),
            ("math.isfinite(value) and value > 0", "value > 0", "an infinite learning rate"),
            ("if value < 1:", "if value < 0:", "zero samples"),
            ("if 0 < value < LEAST_TEMPERATURE:", "if False:", "a temperature that overflows"),
            ("type=partial(positive_int, most=MOST_TEXTS),", "type=positive_int,", "more texts than their interval has memory for"),
            ("0 <= value < 1", "0 <= value <= 1", "a dropout of 1"),
            ("else values[field.name]", "else field.default", "flags do not reach the settings"),
            ("is_dataclass(field.type) else", "is_dataclass(field.type) and not field.default else",
             "the settings inside of others are not filled"),
            ("sys.exit(2)", "sys.exit(1)", "wrong input exits as a crash does"),
        ],
        "evaluate/test_flags.py::test_nothing_heavy_is_loaded_before_the_flags_are_read": [
            ("import re\n", "import re\nimport torch\n", "--help waits for PyTorch"),
        ],
        "model/test_answer.py": [
            ("except BrokenPipeError:", "except ZeroDivisionError:", "`| head` ends in a traceback"),
        ],
        "evaluate/test_flags.py": [
            ("        open_streams()\n", "", "a stream that was closed ends in a traceback"),
            ("            sys.stdout.flush()\n", "", "a pipe that nobody reads is found broken when Python ends"),
            ("suppress(OSError, AttributeError):", "suppress(OSError):", "an error that nobody hears is a traceback"),
            ("if flag in self._option_string_actions]", "]", "flags that a command does not have are to be lessened"),
            ("                raise\n            flags", "                asked = ''\n            flags", "any error is a lack of memory"),
        ],
    },
    "evaluate/measures/finished.py": {
        "train/test_train.py": [
            ("usual | (terms or of_the_first) | asked", "usual | of_the_first", "flags are ignored"),
            ("if was != now", "if False", "a run is measured by another text unseen"),
            ("usual | (terms or of_the_first) | asked", "usual | terms | asked",
             "the base model is measured on other terms than the run beside it"),
        ],
    },
    "evaluate/measures/yardstick.py": {
        "evaluate/measures/test_measure.py": [
            ("self.setup.held_out > HELD_OUT_ON_THE_WAY", "False", "the first and last loss are of another text"),
            ('"copied": measured["copied"]', '"copied": 0.0', "nothing is copied at the end of the way"),
        ],
    },
    "evaluate/report/closing.py": {
        "evaluate/report/test_closing.py": [
            ("textwrap.fill(text, WIDTH,", "textwrap.fill(text, WIDTH + 9,", "sentences wider than the terminal"),
            ('if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else " "', 'if widths else " "', "a wide table is not drawn together"),
            ("max_lines=LINES, ", "", "texts of any length"),
            ('" ".join(readable(text).split())', '" ".join(text.split())', "a text commands the terminal"),
        ],
    },
    "evaluate/rate/contest.py": {
        "evaluate/rate/test_rate.py": [
            ("math.ceil(FEW / (participants - 1))", "FEW // (participants - 1)", "too few pairs for a verdict"),
            ("round(1.2 * rounds", "round(rounds", "repeats are not reckoned with"),
            ("if comparisons >= needed:", "if True:", "nobody is told that the pairs are too few"),
        ],
    },
    "evaluate/measures/reference.py": {
        "train/test_train.py": [
            ("banned=setup.banned,", "banned=[],", "texts may end in the middle"),
            ("            sampling,\n            vocab", "            vocab", "the sampling flags are ignored"),
        ],
        "test_device_path.py": [
            ("untruncated], -1))", "untruncated], -1).cpu())", "each token that is watched waits for a GPU"),
        ],
    },
    "evaluate/report/verdicts.py": {
        "evaluate/test_evaluate.py": [
            ("losses[-1] > (1 + LOSS_CHANGE) * losses[lowest]", "losses[-1] > losses[lowest]",
             "noise passes for over-fitting"),
            (' and final_loss(result) < np.mean(result["train_loss"][then])', "", "mere harm passes for over-fitting"),
        ],
        "evaluate/report/test_verdicts.py": [
            ("if pair[0] >= recovered", "if True", "what a step too large did is called over-fitting"),
            ("<= losses[0] + SHOCK", "<= losses[0]", "a batch that is hard is called a step too large"),
            ("means[highest:] <= losses[0]", "means <= losses[0]", "recovered before it was hit"),
            ("if since == last else f\"until", "if since else f\"until", "what turned is called still falling"),
            ("if lr == best and samples == [end]", "if lr == best", "the best rate is always still falling"),
            ("samples[-1] < end and loss < (1 + LOSS_CHANGE) * lowest", "samples[-1] < end",
             "a worse minimum is called as good"),
            ("max(held_out[1], base[1])", "held_out[1]", "what the base model says as well is called memorised"),
            ("interval[0] > base_interval[1] and ", "", "what the base model copies as well is called copied"),
        ],
    },
    "evaluate/report/captions.py": {
        "evaluate/report/test_report.py": [
            ('result["after"]["untruncated_ratio"] - result["book_ratio"]', 'result["after"]["ratio"] - result["book_ratio"]',
             "the nearest to the book is told by a ratio with top-k"),
            ("min(groups, key=", "max(groups, key=", "the worst is called the best"),
            ("if best == nearest:", "if True:", "the lowest loss passes for the nearest ratio too"),
            ("if samples == [0]:", "if 0 in samples:", "one seed that learns nothing speaks for all"),
            ("last_held_out(r) - final_loss(r)", "final_loss(r) - last_held_out(r)", "the gap the wrong way round"),
            ("mean(runs, last_held_out) > base", "mean(runs, last_held_out) < base", "what learned is called worse"),
        ],
    },
    "evaluate/report/texts.py": {
        "evaluate/report/test_report.py": [
            ('runs.setdefault(result["lr"], kept)', 'runs[result["lr"]] = kept', "the last seed instead of the first"),
            ("if len(kept) > 1 and", "if", "a column of the base model alone, or none to show"),
            ('f"way-{i}-{k}-{c[\'sample\']}"', 'f"way-{i}-{k}"', "a copied run shows another sample's passage"),
            ("'all'} tokens", "'all'}", "how the texts were drawn is half said"),
        ],
    },
    "evaluate/report/tables.py": {
        "evaluate/report/test_report.py": [
            ('first["before"] | {"own_terms_label": own_terms_label(first)}', 'first["before"]',
             "the base model's ratio cannot be held against the book's"),
        ],
    },
    "evaluate/report/page.py": {
        "evaluate/report/test_report.py": [
            ("if figure[0] not in main]", "]", "a figure is shown twice"),
            ("seed_rows=seed_rows(results),", "seed_rows=[],", "no table over the seeds"),
        ],
    },
    "evaluate/report/template.py": {
        "evaluate/report/test_report.py": [
            ("autoescape=True", "autoescape=False", "what a model writes becomes markup"),
        ],
        "evaluate/rate/test_rate.py": [
            ('environment.policies["json.dumps_kwargs"] = {}', "pass", "the page asks in another order than it notes"),
        ],
    },
}
# fmt: on


class Fault(NamedTuple):
    file: str
    old: str  # occurs once in the file
    new: str
    tests: str  # files or node ids below tests/, separated by spaces
    breaks: str

    @property
    def name(self) -> str:
        return f"{self.file}: {self.breaks}"


FAULTS = [
    Fault(file, old, new, tests, breaks)
    for file, groups in TABLE.items()
    for tests, rows in groups.items()
    for old, new, breaks in rows
]


def put_in(fault: Fault, source: str) -> str:
    """`source` with the fault in it.

    Raises:
        ValueError: the table is out of date: the old code is not there exactly once, or the new is no Python.
    """
    if source.count(fault.old) != 1:
        raise ValueError(f"{fault.name}: occurs {source.count(fault.old)} times, not once: {fault.old}")
    try:
        faulty = source.replace(fault.old, fault.new)
        compile(faulty, fault.file, "exec")
    except SyntaxError as error:
        raise ValueError(f"{fault.name}: with the fault line {error.lineno} is not Python: {fault.new}") from None
    return faulty


def out_of_date(faults: list[Fault]) -> list[str]:
    """What is wrong with the table, a line for each fault; looked for before anything runs."""
    complaints = []
    for fault in faults:
        try:
            put_in(fault, (ROOT / fault.file).read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            complaints.append(str(error))
    return complaints


def run_tests(folder: Path, tests: str, *options: str) -> tuple[int | None, str]:
    """pytest's exit code, None where the time limit ended it, and what it printed."""
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
        printed, _ = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the processes too that the tests have started
        process.wait()
        return None, ""
    return process.returncode, printed


def verdict(folder: Path, fault: Fault) -> str:
    """Put the fault into the copy in `folder`, run its tests, and take it out again."""
    file = folder / fault.file
    whole = file.read_bytes()
    file.write_bytes(put_in(fault, whole.decode("utf-8")).encode("utf-8"))
    try:
        code, printed = run_tests(folder, fault.tests, "-x")
    finally:
        file.write_bytes(whole)
    if code is None:
        return "caught (time limit)"
    # 1: a test ran and failed. Any other code is pytest's own trouble, such as a test that is not there
    # any more, and would pass for a catch.
    outcomes = {0: "SURVIVED", 1: "caught"}
    return outcomes.get(code) or f"NO VERDICT, pytest's exit code is {code}: {' '.join(printed.split())[-300:]}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("--only", metavar="WORD", default="", help="faults whose file, code, tests or name has it")
    args = parser.parse_args()
    faults = [fault for fault in FAULTS if args.only.lower() in " ".join(fault).lower()]
    if not faults:
        sys.exit(f"error: no fault has {args.only!r} in it")
    if complaints := out_of_date(faults):
        sys.exit("error: bring the table in tests/mutants.py up to date:\n" + "\n".join(complaints))

    began = time.monotonic()
    verdicts: dict[Fault, str] = {}
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        folder = Path(temporary) / "project"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
        # Every test concerned must pass before its failure can mean anything.
        concerned = sorted({test.split("::")[0] for fault in faults for test in fault.tests.split()})
        print("the tests without a fault:", end=" ", flush=True)
        code, printed = run_tests(folder, " ".join(concerned), "-x")
        if code != 0:
            sys.exit(f"they do not pass (exit code {code})\n{printed[-3000:]}")
        print(f"they pass, {time.monotonic() - began:.0f} s", flush=True)
        for k, fault in enumerate(faults, start=1):
            start = time.monotonic()
            verdicts[fault] = verdict(folder, fault)
            seconds = time.monotonic() - start
            print(f"{k:3} of {len(faults)}  {seconds:4.0f} s  {verdicts[fault]}: {fault.name}", flush=True)

    missed = [fault for fault in faults if not verdicts[fault].startswith("caught")]
    for fault in missed:
        print(f"\n{verdicts[fault]}: {fault.name}\n  old: {fault.old}\n  new: {fault.new}\n  tests: {fault.tests}")
    minutes = (time.monotonic() - began) / 60
    print(f"\n{len(faults)} faults, {len(faults) - len(missed)} caught, {len(missed)} not; {minutes:.0f} minutes")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
