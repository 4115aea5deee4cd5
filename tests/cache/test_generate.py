"""Two streams from one prompt: each is what it would be alone, and the model is left as it was."""

import gc
import threading
import weakref
from itertools import islice

import pytest
import torch
from byte_tokenizer import byte_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from turbo_kv.cache.attending import attending
from turbo_kv.cache.attention import NAME as PACKED_ATTENTION
from turbo_kv.cache.generate import generate_side_by_side
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.cache.sampling import Sampler
from turbo_kv.cache.streaming_text import StreamingText
from turbo_kv.quant.config import QuantConfig

COARSE = QuantConfig(bits=2, centering="off")


TOKENIZER = byte_tokenizer()


def prompt(tokens: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(128, (1, tokens), generator=torch.Generator().manual_seed(seed))


def streams(model, prompt_ids, config=COARSE, new_tokens=24, **options):
    """Both token lists, and the steps."""
    steps = list(generate_side_by_side(model, TOKENIZER, prompt_ids, config, new_tokens, **options))
    return [step.exact.token for step in steps], [step.packed.token for step in steps], steps


def generated(model, prompt_ids, new_tokens=24, **options) -> list[int]:
    output = model.generate(
        prompt_ids,
        attention_mask=torch.ones_like(prompt_ids),
        do_sample=False,
        max_new_tokens=new_tokens,
        pad_token_id=0,
        **options,
    )
    return output[0, prompt_ids.shape[1] :].tolist()


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "top_p": 0.9, "seed": 3}])
@pytest.mark.parametrize("tokens", [1, 40, 150])
def test_a_cache_that_quantizes_nothing_changes_nothing(random_qwen2, tokens, sampling):
    exact, packed, steps = streams(
        random_qwen2, prompt(tokens), quantize="neither", chunk=64, **sampling
    )
    assert exact == packed
    assert all(step.same for step in steps)
    assert max(step.kl for step in steps[1:]) < 1e-6


@pytest.mark.parametrize("tokens", [1, 40, 150])
@pytest.mark.parametrize("centering", ["off", "bias", "mean"])
def test_each_greedy_stream_is_what_generate_gives_alone(random_qwen2, tokens, centering):
    config = QuantConfig(bits=2, centering=centering)
    exact, packed, _ = streams(random_qwen2, prompt(tokens), config, chunk=64)
    assert exact == generated(random_qwen2, prompt(tokens))
    with attending(random_qwen2, PACKED_ATTENTION):
        cache = TurboKVCache.for_model(random_qwen2, config)
        assert packed == generated(random_qwen2, prompt(tokens), cache=cache)


def test_coarse_codes_part_the_streams_and_every_step_says_so(random_qwen2):
    exact, packed, steps = streams(random_qwen2, prompt(40))
    parted = next(i for i, (a, b) in enumerate(zip(exact, packed)) if a != b)
    assert [step.same for step in steps] == [a == b for a, b in zip(exact, packed)]
    assert [step.index for step in steps] == list(range(24))
    assert steps[0].kl is None  # both read the prompt exactly
    assert all(step.kl > 0 for step in steps[1 : parted + 1])
    assert all(step.kl is None for step in steps[parted + 1 :])


def test_kl_compares_two_forwards_on_the_same_tokens(random_qwen2):
    *_, steps = streams(random_qwen2, prompt(40), new_tokens=2)
    ids = torch.cat((prompt(40), torch.tensor([[steps[0].exact.token]])), dim=1)
    with torch.no_grad():
        exact = random_qwen2(ids).logits[0, -1].log_softmax(-1)
        cache = TurboKVCache.for_model(random_qwen2, COARSE)
        random_qwen2(ids[:, :-1], cache=cache)
        packed = random_qwen2(ids[:, -1:], cache=cache).logits[0, -1].log_softmax(-1)
    expected = torch.nn.functional.kl_div(packed, exact, log_target=True, reduction="sum")
    assert steps[1].kl == pytest.approx(float(expected), rel=1e-3)


def test_cache_bytes_are_those_of_storage(random_qwen2):
    """Three layers, two heads of 32: fp32 tensors that grow each step, and pages of codes."""
    *_, steps = streams(random_qwen2, prompt(70), new_tokens=3)
    assert [step.exact.cache_bytes for step in steps] == [
        2 * 3 * 2 * 32 * 4 * tokens for tokens in (70, 71, 72)
    ]
    cache = TurboKVCache.for_model(random_qwen2, COARSE)
    with torch.no_grad():
        random_qwen2(prompt(70), cache=cache)
    assert {step.packed.cache_bytes for step in steps} == {cache.nbytes}


def test_sampling_repeats_with_its_seed_and_changes_with_it(random_qwen2):
    runs = [streams(random_qwen2, prompt(40), temperature=1.5, seed=seed)[:2] for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]


def test_shared_noise_samples_the_distribution_and_couples_two():
    """Gumbel-max draws p; under shared noise two distributions differ at most 2 TV / (1 + TV)."""
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    nudged = logits + torch.tensor([0.1, -0.1, 0.05, 0.0])
    sampler = Sampler(temperature=0.8)
    p, q = (logits / 0.8).softmax(-1), (nudged / 0.8).softmax(-1)
    picks = []
    for _ in range(4000):
        noise = sampler.noise(4)
        picks.append((sampler.pick(logits, noise), sampler.pick(nudged, noise)))
    counts = torch.bincount(torch.tensor([a for a, _ in picks]), minlength=4) / 4000
    assert (counts - p).abs().max() < 0.03
    distance = float((p - q).abs().sum() / 2)
    assert sum(a != b for a, b in picks) / 4000 < 2 * distance / (1 + distance) + 0.01


def test_top_p_keeps_the_smallest_set_that_holds_the_mass():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    sampler = Sampler(temperature=1.0, top_p=0.7)
    picks = {sampler.pick(logits, sampler.noise(4)) for _ in range(300)}
    assert picks == {0, 1}


@pytest.mark.parametrize("temperature", [1e-40, 1e-6])
def test_a_vanishing_temperature_is_greedy(temperature):
    logits = torch.tensor([-300.0, 5.0, 4.0])
    sampler = Sampler(temperature)
    assert sampler.pick(logits, sampler.noise(3)) == 1


def test_a_stream_ends_at_its_own_end_of_text(random_qwen2, monkeypatch):
    exact, packed, _ = streams(random_qwen2, prompt(40))
    end = next(token for token in packed if token not in exact)
    monkeypatch.setattr(random_qwen2.generation_config, "eos_token_id", [end, 127])
    ended_exact, ended_packed, steps = streams(random_qwen2, prompt(40))
    where = packed.index(end)
    assert ended_exact == exact
    assert ended_packed[: where + 1] == packed[: where + 1]
    assert set(ended_packed[where + 1 :]) == {None}
    assert len({step.packed.cache_bytes for step in steps[where:]}) == 1
    assert not any(step.same for step in steps[where + 1 :])


def test_both_ended_ends_the_iterator(random_qwen2, monkeypatch):
    exact, *_ = streams(random_qwen2, prompt(40), quantize="neither")
    monkeypatch.setattr(random_qwen2.generation_config, "eos_token_id", exact[5])
    steps = streams(random_qwen2, prompt(40), quantize="neither")[2]
    assert len(steps) == exact.index(exact[5]) + 1


def caches_alive() -> list:
    gc.collect()
    return [o for o in gc.get_objects() if type(o) in (TurboKVCache, DynamicCache)]


@pytest.mark.parametrize("steps_taken", [0, 1, 5])
def test_closing_midway_restores_the_attention_and_frees_both_caches(random_qwen2, steps_taken):
    before = len(caches_alive())
    steps = generate_side_by_side(random_qwen2, TOKENIZER, prompt(40), COARSE, 24)
    for _ in islice(steps, steps_taken):
        assert random_qwen2.config._attn_implementation == "sdpa"
    kept = [weakref.ref(cache) for cache in caches_alive()]
    steps.close()
    assert random_qwen2.config._attn_implementation == "sdpa"
    assert len(kept) == before + 2
    assert len(caches_alive()) == before


def test_an_error_in_the_forward_restores_the_attention(random_qwen2, monkeypatch):
    steps = generate_side_by_side(random_qwen2, TOKENIZER, prompt(40), COARSE, 24)
    next(steps)
    monkeypatch.setattr(TurboKVCache, "update", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(steps)
    assert random_qwen2.config._attn_implementation == "sdpa"


def test_a_progress_that_raises_stops_the_reading(random_qwen2):
    class StoppedError(Exception):
        pass

    seen = []

    def stop_at_second(fraction, text):
        seen.append(fraction)
        if len(seen) == 2:
            raise StoppedError

    steps = generate_side_by_side(
        random_qwen2, TOKENIZER, prompt(150), COARSE, 4, chunk=50, progress=stop_at_second
    )
    with pytest.raises(StoppedError):
        next(steps)
    assert seen == [pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert random_qwen2.config._attn_implementation == "sdpa"


def test_interleaved_generations_do_not_mix(random_qwen2):
    alone = [streams(random_qwen2, prompt(40, seed))[:2] for seed in (0, 1)]
    runs = [
        generate_side_by_side(random_qwen2, TOKENIZER, prompt(40, seed), COARSE, 24)
        for seed in (0, 1)
    ]
    for (exact, packed), steps in zip(alone, zip(*zip(*runs))):
        assert ([s.exact.token for s in steps], [s.packed.token for s in steps]) == (exact, packed)


def test_generations_in_two_threads_do_not_mix(random_qwen2):
    alone = [streams(random_qwen2, prompt(40, seed))[:2] for seed in (0, 1)]
    results = [None, None]

    def run(seed):
        results[seed] = streams(random_qwen2, prompt(40, seed))[:2]

    threads = [threading.Thread(target=run, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == alone


def test_a_model_is_held_while_another_thread_attends_its_way(random_qwen2):
    entered, seen = threading.Event(), []

    def other():
        entered.set()
        with attending(random_qwen2, "eager"):
            seen.append(random_qwen2.config._attn_implementation)

    with attending(random_qwen2, PACKED_ATTENTION):
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait()
        thread.join(timeout=0.1)
        assert seen == []
        assert random_qwen2.config._attn_implementation == PACKED_ATTENTION
    thread.join()
    assert seen == ["eager"]
    assert random_qwen2.config._attn_implementation == "sdpa"


def streamed(ids: list[int]) -> list[str]:
    text = StreamingText(TOKENIZER)
    return [*(text.push(token) for token in ids), text.flush()]


@given(st.lists(st.integers(0, 255), max_size=40))
def test_streamed_pieces_join_to_the_decoded_whole_whatever_the_bytes(ids):
    assert "".join(streamed(ids)) == TOKENIZER.decode(ids)


@given(st.text(max_size=20))
def test_whole_characters_come_at_once_and_never_broken(text):
    pieces = streamed(TOKENIZER(text)["input_ids"])
    assert "".join(pieces) == text
    assert pieces[-1] == "" or "�" in text
    assert all(len(piece) <= 1 for piece in pieces) or "�" in text


def test_step_texts_join_to_the_decoded_streams(random_qwen2):
    exact, packed, steps = streams(random_qwen2, prompt(40), temperature=2.0)
    assert "".join(step.exact.text for step in steps) == TOKENIZER.decode(exact)
    assert "".join(step.packed.text for step in steps) == TOKENIZER.decode(packed)


@pytest.mark.parametrize(
    ("prompt_ids", "new_tokens", "said"),
    [
        (prompt(0), 4, "no tokens"),
        (prompt(8).expand(2, 8), 4, r"\(2, 8\)"),
        (prompt(8)[0], 4, r"\(8,\)"),
        (prompt(8), 0, "0 new tokens"),
        (prompt(8), -3, "-3 new tokens"),
        (prompt(4090), 7, "4,090 prompt tokens and 7 new ones .* 4,096 positions"),
    ],
)
def test_what_cannot_be_generated_is_refused_at_once(random_qwen2, prompt_ids, new_tokens, said):
    with pytest.raises(ValueError, match=said):
        generate_side_by_side(random_qwen2, TOKENIZER, prompt_ids, COARSE, new_tokens)


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 11.0}, "temperature is 11.0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_sampling_out_of_range_is_refused_at_once(random_qwen2, sampling, said):
    with pytest.raises(ValueError, match=said):
        generate_side_by_side(random_qwen2, TOKENIZER, prompt(8), COARSE, 4, **sampling)


def test_the_last_position_can_be_reached(random_qwen2, monkeypatch):
    monkeypatch.setattr(random_qwen2.config, "max_position_embeddings", 44)
    assert len(streams(random_qwen2, prompt(40), new_tokens=4)[0]) == 4


def test_nan_weights_are_named_by_layer(random_qwen2):
    bias = random_qwen2.model.layers[1].self_attn.v_proj.bias
    before = bias.data.clone()
    try:
        bias.data[0] = float("nan")
        with pytest.raises(ValueError, match=r"layer 1.*values"):
            next(generate_side_by_side(random_qwen2, TOKENIZER, prompt(8), COARSE, 4))
    finally:
        bias.data = before
