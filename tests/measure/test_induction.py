"""Laws of recall at a distance, with stand-ins that copy well and with the bundled model."""

import json
from types import SimpleNamespace

import pytest
import torch

from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.measure.induction import measure_recall, recall
from turbo_kv.measure.needle import DEPTHS, QUESTION, needle
from turbo_kv.models.load import load
from turbo_kv.models.text import prepare
from turbo_kv.quant.config import QuantConfig

VOCABULARY = 500


class Copier(torch.nn.Module):
    """Foretells what followed the last earlier showing of the two newest tokens, else token 0.

    Its cache is the list of what it has read; a cache that starts as None forgets nothing, a
    `Forgetful` one loses all before the current forward.
    """

    def forward(self, tokens, cache=None, use_cache=True, logits_to_keep=0):
        past = [] if isinstance(cache, Forgetful) else cache or []
        read = torch.cat((*past, tokens), dim=1)
        logits = torch.zeros(*tokens.shape, VOCABULARY)
        for row in range(len(tokens)):
            for place in range(tokens.shape[1]):
                known = read[row, : read.shape[1] - tokens.shape[1] + place + 1].tolist()
                logits[row, place, follower(known)] = 1
        seen = cache if isinstance(cache, Forgetful) else [*past, tokens]
        return SimpleNamespace(logits=logits[:, -logits_to_keep:], cache=seen)


class Forgetful:
    """The mark of a cache that holds nothing."""


def follower(known):
    for place in range(len(known) - 2, 0, -1):
        if known[place - 1 : place + 1] == known[-2:]:
            return known[place + 1]
    return 0


@pytest.fixture
def text():
    return torch.randint(1, VOCABULARY, (1, 600), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


def test_a_copier_recalls_all_but_the_first_followers(text):
    (result,) = recall(Copier(), text, lambda: None, [40], length=16, passages=4)
    assert result.reference == result.quantized
    assert result.reference.accuracy > 0.7  # the second token follows one token, which is no pair
    assert result.unseen.accuracy < 0.2


def test_a_cache_that_forgets_recalls_nothing(text):
    (result,) = recall(Copier(), text, Forgetful, [560], length=16, passages=4)
    assert result.reference.accuracy > 0.7
    assert result.quantized.accuracy < 0.2


def test_the_passages_are_seeded(text):
    first, second = (recall(Copier(), text, lambda: None, [5], passages=2) for _ in range(2))
    assert first == second


def encode(words):
    return [1 + ord(letter) % (VOCABULARY - 1) for letter in words]


def test_a_copier_finds_the_needle_at_every_depth(text):
    result = needle(Copier(), encode, text, lambda: None)
    assert result.depths == DEPTHS
    assert result.reference == result.quantized
    assert result.reference.accuracy > 0.5


def test_a_forgetful_cache_loses_the_needle(text):
    result = needle(Copier(), encode, text, Forgetful)
    assert result.quantized.accuracy < result.reference.accuracy


def test_a_model_that_cannot_is_said_so(random_qwen2):
    def refuse():
        raise AssertionError("packing must not be tried")

    tokens = torch.randint(128, (1, 64), generator=torch.Generator().manual_seed(0))
    result = needle(random_qwen2, encode, tokens, refuse)
    assert result.quantized is None
    assert "not tried" in result.note


def test_the_question_ends_where_the_number_begins(tiny):
    """Else the hidden sentence and the question would not share their tokens."""
    ids = tiny.tokenizer(f"{QUESTION}12345.")["input_ids"]
    question = tiny.tokenizer(QUESTION)["input_ids"]
    assert ids[: len(question)] == question
    assert len(ids) == len(question) + 6


def test_the_bundled_model_recalls_and_two_bits_recall_less(tiny):
    filler = prepare(tiny.tokenizer, None, 600, 8192).tokens
    ways = [QuantConfig(), QuantConfig(bits=2, centering="off")]
    packed, coarse = (
        recall(
            tiny.model,
            filler,
            lambda way=way: TurboKVCache(tiny.model.config, way, read_back=True),
            [100],
        )[0]
        for way in ways
    )
    assert packed.reference == coarse.reference
    assert packed.reference.accuracy > packed.unseen.accuracy + 3 * packed.reference.stderr
    assert packed.quantized.accuracy > packed.unseen.accuracy
    assert coarse.quantized.accuracy < packed.quantized.accuracy
    assert packed.reference.stderr > 0


def test_the_report_holds_both_and_is_json(monkeypatch):
    made, new = [], TurboKVCache.for_model
    monkeypatch.setattr(
        TurboKVCache, "for_model", lambda *a, **chosen: made.append(chosen) or new(*a, **chosen)
    )
    report = measure_recall(context=32, exact_window=8)
    assert {each["exact_window"] for each in made} == {8}
    assert [entry.distance for entry in report.recall] == [0]
    assert report.needle.context == 32
    assert json.loads(json.dumps(report.to_dict())).keys() == {"recall", "needle"}
    assert "at 0" in report.summary
    assert report.needle.note in report.summary


@pytest.mark.parametrize("wrong", [{"length": 1}, {"passages": 1}, {"distances": [601]}])
def test_bad_input_is_named(text, wrong):
    with pytest.raises(ValueError, match=r"use at least|distance is 601"):
        recall(Copier(), text, lambda: None, **{"distances": [10], **wrong})
