"""The bundled model is what its card says: a small English Qwen2 with a large key bias."""

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from turbo_kv.models.catalog import TINY
from turbo_kv.models.tiny import FOLDER
from turbo_kv.models.train_check import continuation, perplexity
from turbo_kv.models.train_model import INNER_NORM, OUTER_NORM, key_bias_norms
from turbo_kv.models.train_plan import TrainingPlan

ROOT = Path(__file__).parents[2]
TRAINING = json.loads((ROOT / "assets" / "results" / "tiny-training.json").read_text())

# Written for this test: in no corpus, and plain enough for a small model.
PROSE = """\
The lighthouse stands on a narrow rock about two miles from the coast. It was built in the middle \
of the last century, after a storm in which three fishing boats were lost in a single night. The \
first keeper lived there with his wife and two children for eleven years. During the winter no \
boat could reach them, and they had to live on what had been stored in the summer. His son later \
wrote that the sea was never silent, and that when the family moved back to the village he could \
not sleep for many weeks. The lamp was lit by hand every evening until a small engine was \
installed. Today the light is controlled from the harbour, and nobody lives on the rock any more.
"""


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


def test_it_is_the_plain_qwen2_of_the_catalog_and_of_the_training_plan(model):
    config = model.config
    assert config.architectures == ["Qwen2ForCausalLM"]
    assert config.num_hidden_layers == TINY.layers == 12
    assert config.num_attention_heads == TINY.query_heads
    assert config.num_key_value_heads == TINY.kv_heads == 2
    assert config.head_dim == TINY.head_dim == 64
    assert config.hidden_size == TINY.hidden_size
    assert config.vocab_size == TINY.vocab_size == 8192
    assert config.max_position_embeddings == TINY.max_position_embeddings == 8192
    assert config.rope_parameters["rope_theta"] == 1e6
    assert config.tie_word_embeddings
    assert model.num_parameters() == TINY.params == TRAINING["parameters"]
    planned = TrainingPlan().config
    for name in ("hidden_size", "intermediate_size", "num_attention_heads", "layer_types"):
        assert getattr(config, name) == getattr(planned, name)


def test_no_file_is_too_large_for_the_repository():
    shards = sorted(FOLDER.glob("*.safetensors"))
    assert len(shards) > 1
    assert max(path.stat().st_size for path in FOLDER.iterdir()) < 9_500_000
    assert sum(path.stat().st_size for path in shards) == pytest.approx(2 * TINY.params, rel=0.01)


def test_its_key_bias_still_carries_the_hazard(model):
    norms = torch.tensor(key_bias_norms(model))  # (layers, H_kv)
    assert (norms[[0, -1]] / OUTER_NORM - 1).abs().max() < 0.1
    assert norms[1:-1].max() < 3 * INNER_NORM
    slow = model.model.layers[0].self_attn.k_proj.bias.view(2, 2, 32).norm(dim=1)  # (H_kv, pairs)
    assert (slow[:, 24:].square().sum(1) > 0.9 * norms[0].square()).all()


def test_it_predicts_english(model, tokenizer):
    tokens = tokenizer(PROSE, return_tensors="pt")["input_ids"][0]
    assert perplexity(model, tokens, 512) < 30
    assert perplexity(model, tokens.flip(0), 512) > 1000


@pytest.mark.parametrize("prompt", TRAINING["continuations"])
def test_a_greedy_continuation_reads_as_english(prompt, model, tokenizer):
    text = continuation(model, tokenizer, prompt, tokens=40)
    words = re.findall(r"[A-Za-z]+", text)
    assert text.isascii()
    assert len(words) >= 20
    assert {"the", "of", "a", "and", "to", "in", "was", "is"} & set(words)


def test_text_survives_the_tokenizer_and_ends_with_its_only_special_token(tokenizer):
    text = "Naïve 日本語, 12.5 %\n\n\tif x:  # 🙂 <b>&amp;</b>"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) == 8192
    assert tokenizer.convert_tokens_to_ids("<|endoftext|>") == 0
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 0
    assert tokenizer.chat_template is None


def test_the_card_admits_the_planted_bias_in_its_second_sentence():
    body = (FOLDER / "README.md").read_text().split("\n\n")[1]
    second = re.split(r"(?<=\.)\s+", body)[1]
    assert "planted" in second
    assert "k_proj.bias" in second


def test_the_card_shows_the_measured_run():
    card = (FOLDER / "README.md").read_text()
    for measured in TRAINING["perplexity"].values():
        row = " | ".join(f"{value:.2f}" for value in measured.values())
        assert row in card
    assert f"{TRAINING['seconds']['total']:.0f} s" in card
    assert all(source["name"] in card for source in TRAINING["sources"])
    assert "CC BY-SA" in card


def test_the_run_kept_to_its_plan_and_reached_its_floor():
    plan = TrainingPlan()
    planned = plan.settings() | {"contexts": list(plan.contexts)}
    known = planned.keys() & TRAINING["plan"].keys()  # later settings stand at what it did
    assert {name: TRAINING["plan"][name] for name in known} == {
        name: planned[name] for name in known
    }
    assert len(known) > 8
    read = sum(stage["tokens"] for stage in TRAINING["training"]["stages"])
    assert plan.tokens <= read < plan.tokens + plan.batch_tokens
    assert TRAINING["seconds"]["total"] < 9 * 60
    for measured in TRAINING["perplexity"].values():
        assert measured["2048"] <= 28
        assert measured["8192"] <= 26.5
