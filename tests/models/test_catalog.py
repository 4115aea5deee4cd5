"""The catalog repeats published numbers, so the tests hold it to them."""

import pytest

from turbo_kv.models.catalog import CATALOG, card

# Exact parameters and bf16 KV bytes per token, from the published checkpoints.
PUBLISHED = {
    "Qwen2.5-0.5B": (494_032_768, 12_288),
    "Qwen2.5-1.5B-Instruct": (1_543_714_304, 28_672),
    "Qwen2.5-3B": (3_085_938_688, 36_864),
    "Qwen2.5-7B-Instruct": (7_615_616_512, 57_344),
    "Qwen2.5-14B": (14_770_033_664, 196_608),
    "Qwen2.5-32B": (32_763_876_352, 262_144),
    "Qwen2.5-72B-Instruct": (72_706_203_648, 327_680),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_cards_equal_the_published_facts(name):
    assert (CATALOG[name].params, CATALOG[name].kv_bytes_per_token()) == PUBLISHED[name]


def test_a_7b_cache_of_8192_tokens_takes_448_mib():
    assert 8_192 * card("Qwen2.5-7B").kv_bytes_per_token() == 448 * 2**20


def test_every_size_comes_as_base_and_instruct_beside_the_bundled_model():
    sizes = ("0.5B", "1.5B", "3B", "7B", "14B", "32B", "72B")
    qwen = {f"Qwen2.5-{size}{suffix}" for size in sizes for suffix in ("", "-Instruct")}
    assert set(CATALOG) == qwen | {"tiny"}


@pytest.mark.parametrize("model", CATALOG.values(), ids=lambda m: m.name)
def test_every_card_is_consistent(model):
    assert model.query_heads % model.kv_heads == 0
    assert model.weights_bytes == 2 * model.params
    assert model.vocab_size * model.hidden_size < model.params
    assert model.max_position_embeddings in (8_192, 32_768, 131_072)
    assert ("non-commercial" in model.licence) == ("-3B" in model.name)
    assert model.repo_id == (None if model.name == "tiny" else f"Qwen/{model.name}")


@pytest.mark.parametrize("model", CATALOG.values(), ids=lambda m: m.name)
def test_a_card_is_found_by_name_and_by_repository(model):
    assert card(model.name) is model
    assert model.repo_id is None or card(model.repo_id) is model


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("Qwen2.5-7b-instruct", "Qwen2.5-7B-Instruct"),
        ("Qwen/Qwen2.5-05B", "Qwen2.5-0.5B"),
        ("Tiny", "tiny"),
    ],
)
def test_a_misspelled_name_is_told_what_was_meant(wrong, meant):
    with pytest.raises(ValueError, match=f"{wrong!r} is not known; did you mean .*{meant}"):
        card(wrong)


@pytest.mark.parametrize("wrong", ["", "gpt-4", "../../etc/passwd"])
def test_an_unknown_name_is_told_the_choices(wrong):
    with pytest.raises(ValueError, match=r"choose one of tiny, Qwen2\.5-0\.5B, .*72B-Instruct"):
        card(wrong)
