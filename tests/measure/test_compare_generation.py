"""From a request to a transcript: what it adds up, and that its JSON form keeps it."""

import json
from dataclasses import replace

import pytest

from turbo_kv.cache.generate import generate_side_by_side
from turbo_kv.cache.step import Side, Step
from turbo_kv.measure.compare_generation import compare_generation
from turbo_kv.measure.report import ModelFacts, TextFacts
from turbo_kv.measure.transcript import GenerationRequest, Transcript
from turbo_kv.models.load import load
from turbo_kv.models.prompt import prepare_prompt
from turbo_kv.quant.config import QuantConfig


@pytest.fixture
def request_of(random_checkpoint):
    def make(**changes) -> GenerationRequest:
        coarse = QuantConfig(bits=2, centering="off")
        plain = GenerationRequest(
            "Once", str(random_checkpoint), new_tokens=12, device="cpu", config=coarse
        )
        return replace(plain, **changes)

    return make


def test_transcripts_grow_by_a_step_and_the_last_is_complete(request_of):
    transcripts = list(compare_generation(request_of()))
    assert [len(each.steps) for each in transcripts] == [*range(1, 13), 12]
    assert [each.complete for each in transcripts] == [False] * 12 + [True]
    assert transcripts[-1].prompt_tokens == 4


def test_the_steps_are_those_of_the_cache_room(request_of):
    request = request_of(temperature=0.8, top_p=0.9, seed=5)
    *_, transcript = compare_generation(request)
    loaded = load(request.model, "cpu")
    steps = generate_side_by_side(
        loaded.model,
        loaded.tokenizer,
        prepare_prompt(loaded.tokenizer, "Once").tokens,
        request.config,
        12,
        temperature=0.8,
        top_p=0.9,
        seed=5,
    )
    assert [(s.exact.token, s.packed.token) for s in transcript.steps] == [
        (s.exact.token, s.packed.token) for s in steps
    ]


def test_newest_tokens_that_stay_as_they_are_make_fewer_errors(request_of):
    *_, plain = compare_generation(request_of())
    *_, windowed = compare_generation(request_of(exact_window=32))
    assert plain.kl > 100 * windowed.kl  # 4 + 12 tokens: all of them are among the newest
    assert plain.said("exact") == windowed.said("exact") == windowed.said("packed")


def test_the_json_form_reads_back(request_of):
    *_, transcript = compare_generation(request_of(exact_window=3))
    data = json.loads(json.dumps(transcript.to_dict(), allow_nan=False))
    assert Transcript.from_dict(data) == transcript
    assert data["exact"]["text"] == transcript.said("exact")
    assert data["memory"]["after_bytes"] == transcript.cache_bytes("packed")


def test_progress_ends_when_the_prompt_is_read(request_of):
    said = []
    transcripts = compare_generation(request_of(), lambda fraction, text: said.append(fraction))
    next(transcripts)
    assert said == sorted(said)
    assert said[-1] == 1
    count = len(said)
    list(transcripts)
    assert len(said) == count


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": " \n"}, "prompt is empty"),
        ({"new_tokens": 0}, "0 new tokens"),
        ({"new_tokens": 5000}, "4,096 positions"),
        ({"temperature": -1.0}, "temperature"),
        ({"model": "no such model"}, "not known"),
    ],
)
def test_what_cannot_be_generated_is_refused(request_of, changes, said):
    with pytest.raises(ValueError, match=said):
        next(compare_generation(request_of(**changes)))


def side(token: int | None, seconds: float, size: int) -> Side:
    return Side(token, "" if token is None else chr(token), size, seconds)


@pytest.fixture
def transcript() -> Transcript:
    """Made-up steps: the packed stream parts at index 2 and ends there."""
    steps = (
        Step(0, side(97, 1.0, 400), side(97, 1.5, 100), None),
        Step(1, side(98, 0.1, 404), side(98, 0.2, 100), 0.25),
        Step(2, side(99, 0.3, 408), side(0, 0.2, 101), 0.75),
        Step(3, side(100, 0.1, 412), side(None, 0.0, 101), None),
    )
    model = ModelFacts("tiny", 1, 2, 1, 16, "cpu", "float32", 1000)
    text = TextFacts("prompt", "0" * 64, 3)
    return Transcript(GenerationRequest("abc"), model, text, 100, steps, complete=True)


def test_what_follows_from_the_steps(transcript):
    assert transcript.first_divergence == 2
    assert (transcript.kl, transcript.kl_steps) == (0.5, 2)
    assert (transcript.said("exact"), transcript.said("packed")) == ("abcd", "ab\0")
    assert (transcript.tokens("exact"), transcript.tokens("packed")) == (4, 3)
    assert transcript.bf16_bytes == 206
    assert transcript.ratio == pytest.approx(206 / 101)
    assert (transcript.prompt_seconds("exact"), transcript.prompt_seconds("packed")) == (1.0, 1.5)
    assert transcript.rate("exact") == pytest.approx(3 / 0.5)
    assert transcript.rate("packed") == pytest.approx(2 / 0.4)


def test_the_summary_says_where_they_part_and_what_it_costs(transcript):
    assert transcript.summary == (
        "Both streams agree on the first 2 of 4 tokens. KL 0.5000 nats over 2 tokens. The packed "
        "cache holds 0.00 MiB where bf16 takes 0.00 (2.04×); 6.0 tokens/s exact, 5.0 tokens/s "
        "packed."
    )
    first = replace(transcript, steps=transcript.steps[:1])
    assert first.summary.startswith("Both streams agree on every token. The packed")


def test_one_step_has_neither_rate_nor_kl_nor_divergence(transcript):
    first = replace(transcript, steps=transcript.steps[:1])
    assert (first.rate("exact"), first.kl, first.first_divergence) == (None, None, None)
    assert Transcript.from_dict(json.loads(json.dumps(first.to_dict()))) == first
