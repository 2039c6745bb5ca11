"""Sampling: the cache, the draw, and what a seed promises."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import BLOCK, VOCAB, WIDTH

from model.gpt2 import GPT2, attention
from model.pretrained import load_pretrained
from model.sampling import KeyValueCache, cast_copy, complete, generate, sample_token, uniform_numbers
from model.speed.packed import PackedLinear, can_pack, pack

needs_packing = pytest.mark.skipif(not can_pack(torch.zeros(2, 2)), reason="this PyTorch has no packed linear layers")


@pytest.fixture(scope="module")
def model(model_folder):
    return load_pretrained(model_folder).double()


@pytest.fixture
def prompts():
    return torch.tensor(np.random.default_rng(4).integers(VOCAB, size=(5, 3)))


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 9}, {"temperature": 0.7}])
def test_the_cache_changes_nothing(model, prompts, settings):
    cached = complete(model, prompts, BLOCK - 3, seed=3, **settings)
    assert torch.equal(cached, complete(model, prompts, BLOCK - 3, seed=3, use_cache=False, **settings))
    assert cached.shape == (5, BLOCK) and torch.equal(cached[:, :3], prompts)


def test_with_the_cache_every_token_is_read_once(model, prompts, monkeypatch):
    """That makes writing linear in the new tokens; without it, every token is read again for each that follows."""
    embed, read = GPT2.embed, []

    def watched(model, tokens, start=0):
        read.append((start, tokens.shape[1]))
        return embed(model, tokens, start)

    monkeypatch.setattr(GPT2, "embed", watched)
    complete(model, prompts, 5)
    assert read == [(0, 3), (3, 1), (4, 1), (5, 1), (6, 1)]
    read.clear()
    complete(model, prompts, 5, use_cache=False)
    assert read == [(0, 3), (0, 4), (0, 5), (0, 6), (0, 7)]


# One idea of the cache each; a cache without blocks only counts and embeds.


def test_the_cache_counts_what_was_read(model, prompts):
    cache = KeyValueCache(model, 5, 4)
    cache.blocks = []
    counts = []
    for tokens in (prompts, prompts[:, :1]):
        cache.read(model, tokens)
        counts.append(cache.filled)
    assert counts == [3, 4]


def test_the_cache_gives_every_token_its_position(model, prompts, monkeypatch):
    embed, read = GPT2.embed, []
    monkeypatch.setattr(
        GPT2, "embed", lambda self, tokens, start=0: read.append((start, tokens.shape[1])) or embed(self, tokens, start)
    )
    cache = KeyValueCache(model, 5, 4)
    cache.blocks = []
    for tokens in (prompts, prompts[:, :1]):
        cache.read(model, tokens)
    assert read == [(0, 3), (3, 1)]


@pytest.mark.parametrize("blocks", ["none", "all"])
def test_the_logits_are_those_of_the_last_token(model, prompts, blocks):
    """Of one token, which has no past. Without blocks: the embedding, ln_f and the head alone, of three tokens."""
    cache, tokens = KeyValueCache(model, 5, 3), prompts if blocks == "none" else prompts[:, :1]
    if blocks == "none":
        cache.blocks = []
    with torch.no_grad():
        x = model.embed(tokens)
        expected = model.unembed(model.ln_f(x) if blocks == "none" else model.transform(x))[:, -1]
        torch.testing.assert_close(cache.read(model, tokens), expected, rtol=0, atol=1e-10)


def stores_given(model, prompts, monkeypatch) -> list[tuple[int, int]]:
    """Two reads by blocks that only attend: store, by its address, and start of each call of `attend`."""
    given = []
    monkeypatch.setattr(
        KeyValueCache, "attend", lambda self, store, start, q, *rest: given.append((store.data_ptr(), start)) or q
    )
    cache = KeyValueCache(model, 5, 4)
    blocks = len(cache.store)
    cache.blocks = [lambda x, attend=None: attend(x, x, x, 0.0) if attend else x] * blocks
    for tokens in (prompts, prompts[:, :1]):
        cache.read(model, tokens)
    return [(next((i for i in range(blocks) if cache.store[i].data_ptr() == at), -1), start) for at, start in given]


def test_every_block_attends_through_the_cache(model, prompts, monkeypatch):
    assert [start for _, start in stores_given(model, prompts, monkeypatch)] == [0, 0, 3, 3]


def test_every_block_has_its_own_store(model, prompts, monkeypatch):
    assert [store for store, _ in stores_given(model, prompts, monkeypatch)] == [0, 1, 0, 1]


def attended(model, length=4, dtype=torch.float64):
    """Three tokens and then one, (2, 1, 3 or 1, 4), through `attend`: the store, what came out, q, k, v."""
    cache = KeyValueCache(model, 2, length)
    store = torch.full((4, 1, length, 4), 1e3, dtype=torch.promote_types(dtype, torch.float32))
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 2, 1, 4, 4, generator=generator, dtype=torch.float64).to(dtype)
    v = torch.eye(4, dtype=dtype).expand(2, 1, 4, 4)  # so the weights themselves come out
    found = []
    for start, end in ((0, 3), (3, 4)):
        cache.filled = end
        found.append(cache.attend(store, start, *(z[:, :, start:end] for z in (q, k, v)), 0.0))
    return store, found, q, k, v


def test_keys_and_values_are_stored_in_this_order(model):
    store, _, _, k, v = attended(model)
    assert torch.equal(store[:2, :, 3:4], k[:, :, 3:4]) and torch.equal(store[2:, :, 3:4], v[:, :, 3:4])


def test_what_was_stored_before_stays(model):
    store, _, _, k, v = attended(model)
    assert torch.equal(store[:2, :, :3], k[:, :, :3]) and torch.equal(store[2:, :, :3], v[:, :, :3])


def test_tokens_of_the_prompt_do_not_see_later_ones(model):
    _, found, _, _, v = attended(model)
    torch.testing.assert_close(found[0][:, :, 0], v[:, :, 0], rtol=0, atol=1e-12)


def test_a_new_token_sees_itself_and_all_before(model):
    _, found, *_ = attended(model)
    assert (found[1] > 0).all()


def test_empty_places_are_not_read(model):
    _, found, *_ = attended(model)
    _, longer, *_ = attended(model, length=7)
    torch.testing.assert_close(longer[1], found[1], rtol=0, atol=1e-12)


def test_the_cache_attends_as_the_model_does(model):
    _, found, q, k, v = attended(model)
    torch.testing.assert_close(torch.cat(found, dim=2), attention(q, k, v), rtol=0, atol=1e-12)


def test_the_cache_answers_in_the_models_dtype(model):
    _, found, *_ = attended(model, dtype=torch.bfloat16)
    assert [z.dtype for z in found] == [torch.bfloat16] * 2


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 9}])
def test_a_batch_equals_its_rows(model, prompts, settings):
    together = complete(model, prompts, 12, seed=3, **settings)
    alone = [complete(model, prompts[i : i + 1], 12, seed=3, first_row=i, **settings) for i in range(5)]
    assert torch.equal(together, torch.cat(alone))


def test_greedy_takes_the_most_likely(model, prompts):
    tokens = complete(model, prompts, 6, temperature=0)
    for end in range(3, 9):
        with torch.no_grad():
            assert torch.equal(tokens[:, end], model(tokens[:, :end])[:, -1].argmax(-1))


def test_longer_than_the_context_sees_the_last_tokens(model, prompts):
    tokens = complete(model, prompts, BLOCK + 5, temperature=0)
    assert tokens.shape == (5, BLOCK + 8)
    with torch.no_grad():
        assert torch.equal(tokens[:, -1], model(tokens[:, -1 - BLOCK : -1])[:, -1].argmax(-1))
    # Up to the full context nothing has slid yet: the cached path agrees.
    assert torch.equal(tokens[:, : BLOCK + 1], complete(model, prompts, BLOCK - 2, temperature=0))


def test_same_seed_same_text_and_other_seed_another(model, prompts):
    torch.manual_seed(1)
    first = complete(model, prompts, 15, seed=5)
    torch.manual_seed(2)  # the global generator has no part in it
    assert torch.equal(first, complete(model, prompts, 15, seed=5))
    assert not torch.equal(first, complete(model, prompts, 15, seed=6))


def test_banned_tokens_never_appear(model, prompts):
    usual = complete(model, prompts, 15, temperature=0)
    banned = usual[:, 3:].unique().tolist()
    assert len(banned) > 1
    for settings in ({"temperature": 0}, {"top_k": 1}, {"top_k": 5, "temperature": 2.0}):
        tokens = complete(model, prompts, 15, banned=banned, **settings)
        assert not torch.isin(tokens[:, 3:], torch.tensor(banned)).any()


def test_any_model_that_gives_logits_will_do(prompts):
    """One that always continues with the next id; it has no context limit and no cache."""

    def successor(tokens):
        return 50.0 * F.one_hot((tokens + 1) % VOCAB, VOCAB).float()

    tokens = complete(successor, prompts, 4, temperature=0)
    assert torch.equal(tokens[:, 3:], (prompts[:, -1:] + torch.arange(1, 5)) % VOCAB)


@pytest.mark.parametrize("new_tokens", [BLOCK - 2, BLOCK - 1, BLOCK])
def test_the_cache_ends_where_the_context_ends(model_folder, new_tokens):
    model, prompts = load_pretrained(model_folder).double(), torch.arange(6).view(2, 3)
    cached = complete(model, prompts, new_tokens, temperature=0)
    assert torch.equal(cached, complete(model, prompts, new_tokens, temperature=0, use_cache=False))


@needs_packing
def test_packed_layers_write_what_the_model_says(model_folder, prompts):
    """In float32, where the layers are packed: the logits before each draw are those of the model itself."""
    model = load_pretrained(model_folder)
    drawn, seen = zip(*generate(model, prompts, BLOCK - 3, seed=3))  # (B,) and (B, V) each
    tokens = torch.cat([prompts, torch.stack(drawn, dim=1)], dim=1)
    with torch.no_grad():
        expected = model(tokens)[:, 2:-1]
    torch.testing.assert_close(torch.stack(seen, dim=1), expected, rtol=1e-5, atol=1e-4)


@needs_packing
def test_packing_makes_a_copy_and_keeps_the_numbers(model_folder):
    block = load_pretrained(model_folder).h[1]
    x = torch.randn(5, 3, WIDTH, generator=torch.Generator().manual_seed(0))
    before = block(x).detach()
    packed = pack(block, rows=15)
    assert sum(isinstance(part, PackedLinear) for part in packed.modules()) == 4
    assert packed.ln_1.weight is block.ln_1.weight
    assert torch.equal(block(x), before) and not any(isinstance(part, PackedLinear) for part in block.modules())
    torch.testing.assert_close(packed(x), before, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(packed.mlp(x), block.mlp(x).detach(), rtol=1e-6, atol=1e-5)


@pytest.mark.skipif(not can_pack(torch.zeros(2, 2, dtype=torch.bfloat16)), reason="no bfloat16 on this CPU")
@pytest.mark.parametrize("rows", [1, 16, 17])
def test_packing_in_bfloat16_is_the_product_whatever_rows_it_is_for(rows):
    generator = torch.Generator().manual_seed(0)
    weight, bias, x = (torch.randn(shape, generator=generator).bfloat16() for shape in ((70, 40), (70,), (20, 40)))
    exact = F.linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(PackedLinear(weight, bias, rows)(x).double(), exact, rtol=2**-8, atol=1e-3)


def test_packing_is_for_dtypes_that_it_exists_for(monkeypatch):
    assert not can_pack(torch.zeros(2, 2, dtype=torch.float64))
    assert not can_pack(torch.zeros(2, 2, device="meta"))  # as on any device but the CPU
    monkeypatch.setattr(torch.ops, "mkldnn", object())  # a PyTorch without the operations
    assert not can_pack(torch.zeros(2, 2))


def test_nothing_is_recorded_for_gradients_and_what_was_written_may_be_changed():
    recorded = []

    def model(tokens):
        recorded.append(torch.is_grad_enabled())
        return torch.zeros(*tokens.shape, 5)

    tokens = complete(model, torch.zeros(1, 1, dtype=torch.long), 2)
    assert recorded == [False, False]
    tokens += 1  # an error for a tensor of inference mode


def test_what_is_banned_stays_in_the_models_own_memory():
    table = torch.zeros(1, 3, 5)
    complete(lambda t: table[:, : t.shape[1]], torch.zeros(1, 1, dtype=torch.long), 3, banned=[2])
    assert not table.any()


def test_every_row_and_token_has_its_own_random_number():
    tokens = complete(lambda t: torch.zeros(*t.shape, 1000), torch.zeros(3, 1, dtype=torch.long), 20)
    assert len(tokens.unique(dim=0)) == 3 and all(len(row.unique()) > 10 for row in tokens[:, 1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_in_training_is_evaluated_and_put_back(model_folder, prompts, dtype):
    dropping = cast_copy(load_pretrained(model_folder, dropout=0.5), dtype).train()
    tokens = complete(dropping, prompts, 5, temperature=0)
    assert dropping.training
    assert torch.equal(tokens, complete(dropping.eval(), prompts, 5, temperature=0))


def test_between_two_tokens_the_caller_has_gradients_and_may_stop(model_folder, prompts):
    dropping = load_pretrained(model_folder, dropout=0.5).train()
    steps = generate(dropping, prompts, 5)
    next(steps)
    assert not torch.is_inference_mode_enabled() and not dropping.training
    steps.close()
    assert dropping.training


# The draw itself.

LOGITS = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("uniform", "token"),
    [(0.0, 0), (0.0999, 0), (0.1001, 1), (0.4999, 1), (0.5001, 2), (0.6999, 2), (0.7001, 3), (1 - 1e-16, 3)],
)
def test_the_draw_is_the_inverse_of_the_distribution(uniform, token):
    assert sample_token(LOGITS, torch.tensor([uniform], dtype=torch.float64)).item() == token


ONE = torch.tensor([0.5], dtype=torch.float64)


def test_every_row_gets_one_token():
    assert sample_token(LOGITS.expand(3, 4), torch.full((3,), 0.3, dtype=torch.float64)).shape == (3,)


def test_every_row_has_its_own_number():
    uniform = torch.tensor([0.05, 0.3, 0.95], dtype=torch.float64)
    assert sample_token(LOGITS.expand(3, 4), uniform).flatten().tolist() == [0, 1, 3]


def test_the_draw_is_made_in_float64():
    for uniform, token in ((0.1 - 1e-12, 0), (0.1 + 1e-12, 1)):
        assert sample_token(LOGITS, torch.tensor([uniform], dtype=torch.float64)).item() == token


def test_temperature_counts_with_top_k_too():
    """At 0.5 probabilities of 0.4 and 0.3 become 16 / 25 and 9 / 25."""
    for uniform, token in ((0.63, 1), (0.65, 3)):
        drawn = sample_token(LOGITS, torch.tensor([uniform], dtype=torch.float64), temperature=0.5, top_k=2)
        assert drawn.item() == token


def test_a_temperature_of_0_takes_the_most_likely():
    """Every row its own, whatever the uniform number is."""
    drawn = sample_token(torch.cat([LOGITS, -LOGITS]), torch.full((2,), 0.99, dtype=torch.float64), temperature=0)
    assert drawn.tolist() == [1, 0] and drawn.dtype == torch.int64


def test_only_the_k_most_likely_are_drawn():
    uniform = torch.linspace(0, 1 - 1e-9, 50, dtype=torch.float64)
    assert set(sample_token(LOGITS.expand(50, 4), uniform, top_k=2).tolist()) == {1, 3}


def test_with_top_k_an_id_is_returned():
    """Of 30 tokens number 25 is all but certain; among the few most likely ones it has another place."""
    logits = torch.zeros(1, 30, dtype=torch.float64)
    logits[0, 25] = 10.0
    assert sample_token(logits, ONE, top_k=1).item() == 25


def test_the_probabilities_of_the_k_sum_to_one():
    for uniform, token in ((4 / 7 - 1e-6, 1), (4 / 7 + 1e-6, 3), (1 - 1e-6, 3)):
        assert sample_token(LOGITS, torch.tensor([uniform], dtype=torch.float64), top_k=2).item() == token


def test_the_k_stand_in_the_order_of_their_ids():
    """0.4, 0.2, 0.3, not 0.4, 0.3, 0.2."""
    assert sample_token(LOGITS, torch.tensor([4 / 9 + 1e-6], dtype=torch.float64), top_k=3).item() == 2


@pytest.mark.parametrize("top_k", [4, 9])
def test_a_top_k_of_the_whole_vocabulary_leaves_all(top_k):
    assert sample_token(LOGITS, torch.tensor([0.05], dtype=torch.float64), top_k=top_k).item() == 0


@pytest.mark.parametrize(
    ("top_k", "uniform", "token"),
    [
        (2, 0.0, 1),
        (2, 4 / 7 - 1e-9, 1),
        (2, 4 / 7 + 1e-9, 3),
        (1, 0.99, 1),
        (3, 4 / 9 + 1e-9, 2),
        (3, 0.0, 1),
        (4, 0.0, 0),
        (9, 0.0, 0),
        (None, 0.0, 0),
    ],
)
def test_top_k_keeps_the_k_most_likely_and_renormalises(top_k, uniform, token):
    assert sample_token(LOGITS, torch.tensor([uniform], dtype=torch.float64), top_k=top_k).item() == token


def test_all_that_tie_with_the_kth_stay_in():
    logits = torch.tensor([[1.0, 3.0, 1.0, 2.0, 1.0]])
    uniform = torch.linspace(0, 1 - 1e-9, 200, dtype=torch.float64)
    drawn = {sample_token(logits, u[None], top_k=3).item() for u in uniform}
    assert drawn == {0, 1, 2, 3, 4}
    assert {sample_token(logits, u[None], top_k=2).item() for u in uniform} == {1, 3}


@pytest.mark.parametrize("ties", [3, 16, 17, 60])
def test_ties_beyond_the_room_for_them(ties):
    """Two certain tokens and many that tie for the third place: all of them can be drawn, the least likely cannot."""
    logits = torch.full((1, 100), -5.0)
    logits[0, 7], logits[0, 90] = 1.0, 0.5
    tied = torch.arange(10, 10 + ties)
    logits[0, tied] = 0.0
    uniform = torch.linspace(0, 1 - 1e-12, 2000, dtype=torch.float64)
    drawn = {sample_token(logits, u[None], top_k=3).item() for u in uniform}
    assert drawn == {7, 90, *tied.tolist()}


def test_top_k_draws_as_the_full_distribution_would():
    """Against the definition: everything below the k-th masked out, and the draw made over all ids in order."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 300, generator=generator)
    uniform = torch.rand(500, generator=generator, dtype=torch.float64)
    for k in (1, 5, 50, 299):
        masked = logits.masked_fill(logits < logits.topk(k).values[:, -1:], -torch.inf)
        assert torch.equal(sample_token(logits, uniform, top_k=k), sample_token(masked, uniform))


def test_temperature_divides_the_logits():
    logits = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    share_of_0 = 1 / (1 + math.exp(1 / 0.5))
    for uniform, token in ((share_of_0 - 1e-6, 0), (share_of_0 + 1e-6, 1)):
        assert sample_token(logits, torch.tensor([uniform], dtype=torch.float64), temperature=0.5).item() == token


def test_tokens_of_probability_zero_are_never_drawn():
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    for uniform, token in ((0.0, 1), (0.49, 1), (0.5, 3), (1 - 2**-53, 3)):
        assert sample_token(logits, torch.tensor([uniform], dtype=torch.float64)).item() == token


def test_uniform_numbers_belong_to_their_row():
    whole = uniform_numbers(seed=7, first_row=0, rows=6, columns=4)
    assert torch.equal(whole[2:5], uniform_numbers(seed=7, first_row=2, rows=3, columns=4))
    assert torch.equal(whole[:, :3], uniform_numbers(seed=7, first_row=0, rows=6, columns=3))
    assert whole.unique().numel() == 24 and 0 <= whole.min() and whole.max() < 1
