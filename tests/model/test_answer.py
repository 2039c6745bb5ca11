"""`python -m model`: a model that goes on from a prompt."""

import io

import pytest
import torch
from conftest import BLOCK

import model.__main__ as ask
from data.flags import plain
from data.tokenizer import load_tokenizer
from evaluate.measures.continuations import decode_pieces
from model.pretrained import load_pretrained
from model.sampling import complete


@pytest.fixture
def written(model_folder):
    """What `generate` writes after a prompt, as text, prompt included."""
    tokenizer = load_tokenizer(model_folder)
    model = load_pretrained(model_folder)

    def write(prompt, new_tokens, row=0, **settings):
        ids = (tokenizer.encode_ordinary(prompt) or [tokenizer.eot_token])[-BLOCK:]
        settings = {"temperature": 0.8, "top_k": 40} | settings
        rows = complete(model, torch.tensor([ids]), new_tokens, first_row=row, banned=[tokenizer.eot_token], **settings)
        return plain(prompt + "".join(decode_pieces(tokenizer, rows[0, len(ids) :].tolist())))

    return write


def test_it_writes_what_generate_draws(command, model_folder, written):
    code, printed, err = command(ask.main, model_folder, "the king saw", "--tokens", 9)
    assert code == 0 and printed == written("the king saw", 9) + "\n", err
    flags = ["--tokens", 9, "--temperature", 1.5, "--top-k", 0, "--seed", 4]
    code, printed, err = command(ask.main, model_folder, "the king saw", *flags)
    assert printed == written("the king saw", 9, temperature=1.5, top_k=None, seed=4) + "\n", err
    _, greedy, _ = command(ask.main, model_folder, "the king", "--tokens", 5, "--temperature", 0)
    assert greedy == written("the king", 5, temperature=0) + "\n"


def test_several_texts_of_several_models_with_the_same_random_numbers(command, model_folder, written):
    flags = ["--texts", 2, "--tokens", 6, "--compare", model_folder]
    code, printed, err = command(ask.main, model_folder, "her majesty", *flags)
    texts = [written("her majesty", 6, row) for row in (0, 1)]
    assert code == 0 and texts[0] != texts[1], err
    expected = [f"--- {model_folder}, text {row + 1}\n{texts[row]}\n" for row in (0, 0, 1, 1)]
    assert printed == "".join(expected)


def test_without_a_prompt_it_begins_as_a_text_begins(command, model_folder, written):
    code, printed, err = command(ask.main, model_folder, "", "--tokens", 8)
    assert code == 0 and printed == written("", 8) + "\n", err


@pytest.mark.parametrize(
    ("sent", "prompt"), [("the king\n", "the king"), ("the king\r\n", "the king"), ("a\nb", "a\nb")]
)
def test_the_prompt_may_come_from_standard_input(command, model_folder, written, monkeypatch, sent, prompt):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sent.encode("utf-8"))))
    code, printed, err = command(ask.main, model_folder, "--tokens", 4)
    assert code == 0 and printed == written(prompt, 4) + "\n", err


def test_of_a_long_prompt_it_sees_the_end(command, model_folder, written):
    prompt = "the king saw three ropes; " * 12
    code, printed, err = command(ask.main, model_folder, prompt, "--tokens", 5)
    assert code == 0 and printed == written(prompt, 5) + "\n"
    assert f"sees the last {BLOCK}" in err and err.count("\n") == 1


def test_a_character_of_several_tokens_is_shown_when_it_is_whole(model_folder, capsys):
    """A tokenizer of 300 tokens spells é, € and 😀 byte by byte."""
    tokenizer, shown = load_tokenizer(model_folder), []

    def tokens(ids):
        for token in ids:
            shown.append(capsys.readouterr().out)
            yield token

    ids = tokenizer.encode_ordinary("é€😀")
    assert len(ids) == 9
    ask.show_text(tokenizer, "x", tokens(ids))
    assert [*shown, capsys.readouterr().out] == ["x", "", "é", "", "", "€", "", "", "", "😀\n"]
    ask.show_text(tokenizer, "x", ids[:4])  # cut off within a character
    assert capsys.readouterr().out == "xé\n"


def test_a_terminal_takes_no_commands_from_a_model(command, model_folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\ufeffa\x1b[2J\u200cb".encode())))
    assert command(ask.main, model_folder, "--tokens", 1)[1].startswith("a [2J\u200cb")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere", "x"], "there is no model or folder 'nowhere'"),
        (["{model}", "x", "--compare", "nowhere"], "there is no model or folder 'nowhere'"),
        (["{model}", "x", "--tokens", "0"], "not a whole number above 0"),
        (["{model}", "x", "--temperature", "hot"], "is not 0, nor a finite number"),
        (["{model}"], "the prompt is not UTF-8 (byte 0)"),
    ],
)
def test_wrong_input(refused, model_folder, monkeypatch, arguments, complaint):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    assert complaint in refused(ask.main, *(a.format(model=model_folder) for a in arguments))
