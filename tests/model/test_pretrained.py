"""Files in every layout that goes by the name of GPT-2, and the damaged ones."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import BLOCK, HEADS, LAYERS, VOCAB, WIDTH, official_file, write_model
from reference import logits
from safetensors.numpy import load_file

from model.gpt2 import GPT2, GPT2Config
from model.hub import weight_files
from model.pretrained import load_pretrained, never_drawn, open_model, read_weights, save_pretrained


@pytest.fixture
def tensors(official_weights):
    return official_file(official_weights)


def forward(model) -> np.ndarray:
    tokens = np.random.default_rng(1).integers(VOCAB, size=(2, BLOCK))
    with torch.no_grad():
        return model.double()(torch.tensor(tokens)).numpy()


def test_official_file_gives_the_references_logits(model_folder, official_weights):
    stored = {name: w.astype(np.float32).astype(np.float64) for name, w in official_weights.items()}
    tokens = np.random.default_rng(1).integers(VOCAB, size=(2, BLOCK))
    model = load_pretrained(model_folder)
    assert not model.training and model.wte.weight.dtype == torch.float32
    np.testing.assert_allclose(forward(model), logits(stored, tokens, LAYERS, HEADS), rtol=0, atol=1e-10)


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return read_weights(weight_files(folder), GPT2(GPT2Config(VOCAB, BLOCK, LAYERS, HEADS, WIDTH)))


def test_masks_are_left_out(model_folder, official_weights):
    assert not weights_in(model_folder).keys() - official_weights.keys()


def test_no_parameter_is_forgotten(model_folder, official_weights):
    assert not official_weights.keys() - weights_in(model_folder).keys()


def compare(folder: Path, official_weights: dict, names: tuple[str, ...]) -> None:
    """The weights whose names end in `names`: those of the file; those of linear layers transposed."""
    found = weights_in(folder)
    for name in (name for name in official_weights if name.endswith(names)):
        w = official_weights[name].astype(np.float32)
        np.testing.assert_array_equal(found[name].numpy(), w.T if name.endswith(LINEAR) else w, err_msg=name)


def test_embeddings_norms_and_biases_are_as_in_the_file(model_folder, official_weights):
    compare(model_folder, official_weights, ("wte.weight", "wpe.weight", ".bias", "ln_1.weight", "ln_f.weight"))


def test_linear_weights_are_transposed(model_folder, official_weights):
    compare(model_folder, official_weights, ("c_attn.weight", "c_fc.weight", "mlp.c_proj.weight"))


def test_the_square_weight_is_transposed_too(model_folder, official_weights):
    compare(model_folder, official_weights, ("attn.c_proj.weight",))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {f"transformer.{name}": tensor for name, tensor in t.items()},
        lambda t: t | {f"h.{i}.attn.masked_bias": np.float32([-1e4]) for i in range(LAYERS)},
        lambda t: t | {"lm_head.weight": t["wte.weight"]},
    ],
    ids=["prefix", "masks", "head"],
)
def test_prefix_masks_and_a_tied_head_change_nothing(tmp_path, tensors, model_folder, tokenizer_folder, change):
    folder = write_model(tmp_path, change(tensors), tokenizer_folder)
    np.testing.assert_array_equal(forward(load_pretrained(folder)), forward(load_pretrained(model_folder)))


def test_heads_of_other_tasks_are_left_out_and_named_once(
    tmp_path, tensors, model_folder, tokenizer_folder, capsys, monkeypatch
):
    heads = ["module.score.weight", "v_head.summary.bias", "pretrained_model.classifier.bias", "qa_outputs.weight"]
    heads = sorted([*heads, "multiple_choice_head.summary.weight"])
    folder = write_model(tmp_path, tensors | dict.fromkeys(heads, np.ones((2, WIDTH))), tokenizer_folder)
    open_model(folder)
    noted = capsys.readouterr().err.splitlines()
    assert sorted(noted) == [f"note: {folder}: {name} is left out; it is a head of another task" for name in heads]
    np.testing.assert_array_equal(forward(load_pretrained(folder)), forward(load_pretrained(model_folder)))
    (folder / "model.safetensors").write_bytes(b"damaged")
    open_model(folder)
    open_model(model_folder)
    assert not any(capsys.readouterr())


@pytest.mark.parametrize("name", ["ln_f.bias", "lm_head.weight"])
@pytest.mark.parametrize("kind", ["F4", "F8_E8M0"])
def test_numbers_of_a_rare_type_are_refused(tmp_path, tensors, tokenizer_folder, name, kind):
    """F4 has four bits, which PyTorch cannot convert. No library for numpy writes it, so the header is changed here."""
    rows = np.zeros({"ln_f.bias": WIDTH, "lm_head.weight": (VOCAB, WIDTH)}[name], dtype=np.int8)
    folder = write_model(tmp_path, tensors | {name: rows}, tokenizer_folder)
    content = (folder / "model.safetensors").read_bytes()
    header, rest = json.loads(content[8:][: int.from_bytes(content[:8], "little")]), content[8:]
    rest = rest[int.from_bytes(content[:8], "little") :]
    header[name]["dtype"] = kind
    if kind == "F4":
        header[name]["shape"][-1] *= 2
    changed = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(changed).to_bytes(8, "little") + changed + rest)
    with pytest.raises(ValueError, match=f"^.*of the wrong shape or type: {name} .*$"):
        load_pretrained(folder)


LINEAR = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {f"_orig_mod.transformer.{name}": tensor for name, tensor in t.items()},
        lambda t: {f"module._orig_mod.{name}": tensor for name, tensor in t.items()},
        lambda t: {name: tensor.T if name.endswith(LINEAR) else tensor for name, tensor in t.items()},
        lambda t: {name.replace("wte.", "lm_head."): tensor for name, tensor in t.items()},
        lambda t: {f"pretrained_model.transformer.{name}": tensor for name, tensor in t.items()},
    ],
    ids=["compiled", "in parallel", "as PyTorch's linear layers", "the tied pair under its other name", "trl's"],
)
def test_other_peoples_files_of_the_same_model(tmp_path, tensors, model_folder, tokenizer_folder, change):
    folder = write_model(tmp_path, change(tensors), tokenizer_folder)
    np.testing.assert_array_equal(forward(load_pretrained(folder)), forward(load_pretrained(model_folder)))


def test_what_is_wrong_is_said_by_an_example_and_a_count(tmp_path, tensors, tokenizer_folder):
    wide = {name: np.tile(tensor, 2) for name, tensor in tensors.items() if "ln_2" not in name}
    with pytest.raises(ValueError) as error:
        load_pretrained(write_model(tmp_path, wide, tokenizer_folder))
    said = str(error.value).partition("as a GPT-2: ")[2]
    assert said.startswith("missing: h.0.ln_2.weight and 3 more; of the wrong shape or type: ")
    assert said.endswith(" and 23 more") and len(said) < 200


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, tensors, tokenizer_folder, value):
    broken = tensors["h.1.mlp.c_fc.weight"].copy()
    broken[3, 4] = value
    with pytest.raises(ValueError, match="not finite: h.1.mlp.c_fc.weight$"):
        load_pretrained(write_model(tmp_path, tensors | {"h.1.mlp.c_fc.weight": broken}, tokenizer_folder))


def test_a_pickle_is_refused_and_its_two_lines_convert_it(
    tmp_path, tensors, model_folder, tokenizer_folder, monkeypatch
):
    folder = write_model(tmp_path, tensors, tokenizer_folder)
    weights = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    torch.save(weights | {"lm_head.weight": weights["wte.weight"]}, folder / "pytorch_model.bin")  # tied in memory too
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="a pickle, which can run code") as error:
        load_pretrained(folder)
    monkeypatch.chdir(folder)
    exec(str(error.value).partition("convert it: ")[2], {"torch": torch, "safetensors": safetensors})
    np.testing.assert_array_equal(forward(load_pretrained(folder)), forward(load_pretrained(model_folder)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop("h.1.attn.c_proj.bias"), "missing: h.1.attn.c_proj.bias"),
        (lambda t: t.update({"h.2.ln_1.bias": t["ln_f.bias"]}), "unknown: h.2.ln_1.bias"),
        (lambda t: t.update({"h.0.attn.scale": t["ln_f.bias"]}), "unknown: h.0.attn.scale"),
        (
            lambda t: t.update({"h.0.mlp.c_fc.weight": t["h.0.mlp.c_fc.weight"].T}),
            r"shape or type: h.0.mlp.c_fc.weight \[48, 12\] torch.float32, not \[12, 48\]",
        ),
        (lambda t: t.update({"wpe.weight": t["wpe.weight"][:-1]}), r"shape or type: wpe.weight \[23, 12\]"),
        (lambda t: t.update({"ln_f.bias": t["ln_f.bias"].astype(np.int32)}), "shape or type: ln_f.bias"),
        (lambda t: t.update({"lm_head.weight": t["wte.weight"] + 1}), "lm_head.weight differs"),
        (lambda t: t.update({"lm_head.weight": t["wte.weight"][:-1]}), r"shape or type: lm_head.weight \[299, 12\]"),
        (lambda t: t.update({"lm_head.weight": t["wte.weight"].astype(np.int64)}), "shape or type: lm_head.weight"),
        (lambda t: t.update({"lm_head.weight": t.pop("wte.weight")[:-1]}), "missing: wte.weight|type: lm_head.weight"),
        (lambda t: t.update({"score.weight": t["ln_f.bias"], "wpe.weight": t["wpe.weight"][1:]}), "type: wpe.weight"),
        (lambda t: t.update({"score.weight": t.pop("wpe.weight")}), "missing: wpe.weight"),
        (lambda t: t.update({"scores.weight": t["ln_f.bias"]}), "unknown: scores.weight"),
        (
            lambda t: t.update({"h.0.attn.module.c_proj.bias": t.pop("h.0.attn.c_proj.bias")}),
            "unknown: h.0.attn.module",
        ),
        (lambda t: t.update({"transformer.ln_f.bias": t["ln_f.bias"]}), "unknown: (transformer.)?ln_f.bias"),
    ],
    ids=["missing", "unknown", None, "shape", None, "type", "untied", *8 * [None]],
)
def test_what_is_not_gpt2_is_refused_by_name(tmp_path, tensors, tokenizer_folder, change, complaint):
    tensors = dict(tensors)
    change(tensors)
    with pytest.raises(ValueError, match=complaint):
        load_pretrained(write_model(tmp_path, tensors, tokenizer_folder))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda content: content[: len(content) // 2], "cut short"),
        (lambda content: content[:5], "cut short"),
        (lambda content: b"", "cut short"),
        (lambda content: b"\n<!DOCTYPE html><html>Not found</html>", "web page"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n", "git-lfs pointer"),
    ],
)
def test_damaged_files_are_named_for_what_they_are(tmp_path, tensors, tokenizer_folder, damage, complaint):
    folder = write_model(tmp_path, tensors, tokenizer_folder)
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=complaint):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"activation_function": "gelu"}, "activation_function is 'gelu'"),
        ({"n_inner": 40}, "n_inner is 40"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"scale_attn_weights": False}, "scale_attn_weights"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"n_head": 5}, "not a multiple"),
        ({"n_layer": 0}, "n_layer is 0"),
        ({"n_embd": "12"}, "n_embd is '12'"),
        ({"vocab_size": None}, "vocab_size is None"),
        ({"n_layer": 3}, "missing: h.2.ln_1.weight"),
        ({"n_layer": 10**6}, "n_layer is 1000000"),
        ({"vocab_size": 10**18}, "vocab_size is 1000000000000000000"),
        ({"model_type": "gpt_neo"}, "model_type is 'gpt_neo'"),
        ({"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon is '1e-5'"),
        ({"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon is -1e-05"),
    ],
)
def test_configs_of_other_models_are_refused(tmp_path, tensors, tokenizer_folder, config, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_pretrained(write_model(tmp_path, tensors, tokenizer_folder, **config))


@pytest.mark.parametrize("name", ["gelu_fast", "gelu_accurate"])
def test_other_names_of_the_same_function(tmp_path, tensors, tokenizer_folder, name):
    load_pretrained(write_model(tmp_path, tensors, tokenizer_folder, activation_function=name))


def test_an_adapter_is_no_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"^.* is a LoRA adapter; merge it into its base .*merge_and_unload\(\).*save that$"
    ):
        open_model(tmp_path)


@pytest.mark.parametrize("name", ["gpt2", "lilliput"])
def test_a_folder_with_the_name_of_a_model(tmp_path, tensors, tokenizer_folder, monkeypatch, capsys, name):
    """The name goes on meaning the model, which a note says; with ./ it is the folder."""
    monkeypatch.chdir(tmp_path)
    folder, other = (write_model(tmp_path / f, tensors, tokenizer_folder) for f in (name, "other"))
    monkeypatch.setattr("model.hub.LILLIPUT", other)
    monkeypatch.setattr("model.hub.fetch", lambda name, source, **where: other)
    assert open_model(f"./{name}")[0] == Path(name) and open_model(folder)[0] == folder
    assert open_model(Path(name))[0] == Path(name)
    assert not capsys.readouterr().err
    assert open_model(name)[0] == other
    whose = {"gpt2": "OpenAI's model", "lilliput": "the model that is shipped"}[name]
    assert capsys.readouterr().err == f"note: {name} is {whose} here, not the folder {name}; name that one ./{name}\n"


def test_special_tokens_and_spare_rows_are_never_drawn(tmp_path, tensors, tokenizer_folder):
    folder = write_model(tmp_path, tensors, tokenizer_folder, vocab_size=VOCAB + 3)
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    first = {"<s>": 0} | {token: i + 1 for token, i in vocab.items()}
    for written, expected in ((vocab, [299, 300, 301, 302]), (first, [0, 300, 301, 302])):
        (folder / "vocab.json").write_text(json.dumps(written), encoding="utf-8")
        _, config, tokenizer = open_model(folder)
        assert never_drawn(tokenizer, config) == expected


def test_epsilon_is_read_and_dropout_is_not(tmp_path, tensors, tokenizer_folder):
    config = load_pretrained(write_model(tmp_path, tensors, tokenizer_folder, layer_norm_epsilon=0.25)).config
    assert config == GPT2Config(VOCAB, BLOCK, LAYERS, HEADS, WIDTH, layer_norm_epsilon=0.25, dropout=0.0)
    assert load_pretrained(tmp_path, dropout=0.2).config.dropout == 0.2


def test_broken_json_and_missing_files(tmp_path, tensors, tokenizer_folder):
    folder = write_model(tmp_path, tensors, tokenizer_folder)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="config.json is damaged"):
        load_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="no config.json"):
        load_pretrained(folder)
    (write_model(folder, tensors, tokenizer_folder) / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no model.safetensors; a model folder holds"):
        load_pretrained(folder)
    with pytest.raises(ValueError, match="no model or folder 'gpt3'.*gpt2-xl"):
        load_pretrained("gpt3")


def test_round_trip_is_bit_exact_and_in_the_official_layout(tmp_path, model_folder, tensors):
    save_pretrained(load_pretrained(model_folder), tmp_path, end_of_text=VOCAB - 1)
    stored = load_file(tmp_path / "model.safetensors")
    assert set(stored) == {name for name in tensors if not name.endswith(".attn.bias")}
    for name, tensor in stored.items():
        np.testing.assert_array_equal(tensor, tensors[name], err_msg=name)
    ours, theirs = (json.loads((f / "config.json").read_text(encoding="utf-8")) for f in (tmp_path, model_folder))
    del theirs["initializer_range"]  # of no meaning to finished weights
    assert ours | {"attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1} == theirs
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_half_precision_is_loaded_as_float32(tmp_path, model_folder):
    model = load_pretrained(model_folder)
    save_pretrained(model, tmp_path, end_of_text=VOCAB - 1, dtype=torch.float16)
    half = load_pretrained(tmp_path)
    for (name, p), q in zip(model.named_parameters(), half.parameters()):
        assert q.dtype == torch.float32
        assert torch.equal(q, p.half().float()), name


def test_who_may_read_the_config_may_read_the_weights(tmp_path, model_folder):
    save_pretrained(load_pretrained(model_folder), tmp_path, end_of_text=VOCAB - 1)
    assert len({stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}) == 1


def test_loaded_weights_can_be_trained_without_touching_the_file(tmp_path, tensors, tokenizer_folder):
    folder = write_model(tmp_path, tensors, tokenizer_folder)
    before = (folder / "model.safetensors").read_bytes()
    model = load_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.requires_grad and parameter.is_contiguous()
            parameter.add_(1)
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_failed_save_leaves_the_old_model(tmp_path, model_folder, monkeypatch):
    save_pretrained(load_pretrained(model_folder), tmp_path, end_of_text=VOCAB - 1)
    names = sorted(file.name for file in tmp_path.iterdir())
    before = (tmp_path / "model.safetensors").read_bytes()

    def full_disk(weights, file, metadata):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.pretrained.save_file", full_disk)
    torch.manual_seed(0)
    with pytest.raises(OSError, match="the disk is full: .*/model.safetensors was not written"):
        save_pretrained(GPT2(load_pretrained(model_folder).config), tmp_path, end_of_text=VOCAB - 1)
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    assert (tmp_path / "model.safetensors").read_bytes() == before
