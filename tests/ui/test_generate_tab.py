"""Tab Generate without a page: its sentences, its marks, its actions. All numbers are made up."""

import json
import re
from dataclasses import replace
from html import unescape

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.cache.step import Side, Step
from turbo_kv.kernels.choose import MOST_NEWEST
from turbo_kv.measure.prompts import EXAMPLES
from turbo_kv.measure.report import ModelFacts, TextFacts
from turbo_kv.measure.transcript import STREAMS, GenerationRequest, Transcript
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import engine, generate_tab, generation_words, limits, sample, stream_panes
from turbo_kv.ui.generate_actions import GenerateActions

MODEL = ModelFacts("tiny", 12, 6, 2, 64, "cpu", "float32", 60_000_000)
TEXT = TextFacts("prompt", "0" * 64, 20)
DEFAULTS = {
    **QuantConfig().to_dict(),
    "model": "tiny",
    "device": "auto",
    "prompt": "Once upon a time",
    "new_tokens": 4,
    "exact_window": 0,
    "temperature": 0,
    "sampling_seed": 0,
}
ONERROR = "<img src=x onerror=alert(1)>"


def transcript(exact: list[str], packed: list[str], complete=True, rate=2.0, **asked) -> Transcript:
    """Each text is a token of its own; packed steps take `rate` times as long as exact ones."""
    request = GenerationRequest(**{"prompt": "Once", "new_tokens": len(exact)} | asked)
    steps, parted = [], False
    for index, (a, b) in enumerate(zip(exact, packed)):
        sides = (
            Side(hash(a), a, 9_437_184 + index * 12_288, 0.1),
            Side(hash(b), b, 1_000_000, 0.1 * rate),
        )
        steps.append(Step(index, *sides, None if parted or not index else 0.02))
        parted = parted or a != b
    return Transcript(request, MODEL, TEXT, 512, tuple(steps), complete)


PARTED = transcript([" a", " cat", " sat", "."], [" a", " dog", " sat", "!"])
SAME = transcript([" a", " b"], [" a", " b"])


def test_the_largest_window_is_what_the_kernels_take():
    assert limits.LARGEST_WINDOW == MOST_NEWEST


def test_the_parting_is_named_with_what_each_said():
    said = generation_words.parting(PARTED)
    assert said == "Same for 1 token, then “cat” in full precision against “dog” packed."


@pytest.mark.parametrize(
    ("before", "tokens", "said"),
    [
        (" The com", ("et", "ets"), "“comet” in full precision against “comets” packed"),
        (" The", (" com", " dog"), "“com” in full"),
        (" The ", ("com", "dog"), "“com” in full"),
        ("", ("com", "dog"), "“com” in full"),
        (" word", ("", "x"), "part of a character in full precision against “wordx”"),
    ],
)
def test_a_token_inside_a_word_is_named_with_its_beginning(before, tokens, said):
    exact, packed = tokens
    assert said in generation_words.parting(transcript([before, exact], [before, packed]))


def test_agreement_is_said_and_stays_one_sentence_while_it_grows():
    assert generation_words.parting(SAME) == "Same for all 2 tokens."
    growing = [replace(SAME, steps=SAME.steps[:n], complete=False) for n in (1, 2)]
    assert {generation_words.parting(each) for each in growing} == {"Same for every token so far."}


@pytest.mark.parametrize(
    ("pair", "quoted"),
    [
        ((" cat", " dog"), ["“cat”", "“dog”"]),
        ((" cat", "cat"), ["“ cat”", "“cat”"]),
        (("\n", "."), ["“↵”", "“.”"]),
        (("", "é"), ["part of a character", "“é”"]),
        ((" ", "  "), ["“ ”", "“  ”"]),
    ],
)
def test_quoted_tokens_show_what_differs(pair, quoted):
    assert generation_words.quoted(*pair) == quoted


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (2.0, "Packed is 2.00 times slower here: 5.0 against 10.0 tokens/s."),
        (0.5, "Packed is 2.00 times faster here: 20.0 against 10.0 tokens/s."),
        (1.04, "Both are equally fast here"),
    ],
)
def test_the_faster_stream_is_named(rate, said):
    assert said in generation_words.speed(transcript(["a"] * 3, ["a"] * 3, rate=rate))


def test_there_is_no_speed_and_no_divergence_before_the_second_token():
    first = transcript(["a"], ["a"])
    assert "first token comes from the prompt" in generation_words.speed(first)
    assert "No token has been read" in generation_words.divergence(first)


def test_memory_compares_in_bf16_and_admits_when_nothing_is_gained():
    assert "4.72 times smaller: 4.51 MiB in bf16 against 0.95 MiB" in generation_words.memory(SAME)
    short = replace(SAME.steps[0], exact=Side(1, "a", 24_576, 0.1))
    assert "gains nothing" in generation_words.memory(replace(SAME, steps=(short,)))


def test_running_kl_says_what_it_covers():
    assert "0.020 nats over 1 token, up to where" in generation_words.divergence(PARTED)
    assert generation_words.divergence(SAME).endswith("0.020 nats over 1 token.")


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


def test_differing_tokens_carry_a_sign_and_an_underlined_mark():
    pane = stream_panes.html(PARTED, "packed")
    assert " a <mark><i>≠</i><strong>dog</strong></mark> sat<mark><i>≠</i>!</mark>" in pane
    assert "≠" not in stream_panes.html(SAME, "packed")


words = st.lists(st.text(max_size=6), min_size=1, max_size=8)


@given(words, words)
def test_the_pane_says_every_token_and_only_escaped(exact, packed):
    both = transcript(exact, packed)
    for stream in STREAMS:
        pane = stream_panes.html(both, stream)
        said = text_of(pane.partition('<p class="said">')[2]).replace("≠", "").replace("↵", "")
        assert said == ("Once" + both.said(stream)).replace("≠", "").replace("↵", "")


def test_markup_in_prompt_and_tokens_is_text():
    pane = stream_panes.html(transcript([ONERROR], ["b"], prompt=ONERROR), "exact")
    assert "<img" not in pane
    assert text_of(pane).count(ONERROR) == 2


def test_of_a_long_prompt_the_end_is_shown_from_a_whole_word():
    pane = stream_panes.html(transcript(["a"], ["a"], prompt="word " * 100 + "end"), "exact")
    assert '<span class="asked">… word word' in pane
    assert "word end</span>" in pane
    assert len(text_of(pane)) < 400


@pytest.fixture
def generated(monkeypatch) -> list[GenerationRequest]:
    """Requests that reached the model side, which answers with a made-up transcript."""
    requests: list[GenerationRequest] = []

    def growing(request):
        whole = transcript([" a", " cat", " sat", "."], [" a", " dog", " sat", "!"])
        for length in range(1, 5):
            steps = whole.steps[:length]
            yield replace(whole, request=request, steps=steps, complete=False)
        yield replace(whole, request=request)

    def first_step(request, progress):
        requests.append(request)
        progress(0.5, "Reading the prompt")
        transcripts = growing(request)
        return next(transcripts), transcripts

    monkeypatch.setattr(engine, "first_step", first_step)
    return requests


def generate(**changes):
    values = DEFAULTS | changes
    actions = GenerateActions(limits.LOCAL, engine.Captures(1))
    return list(actions.generate(*(values[name] for name in generate_tab.FIELDS)))


def merged(updates):
    return {name: value for update in updates for name, value in update.items()}


def test_a_generation_draws_both_streams_and_ends_done(generated):
    updates = generate(bits=2, temperature=0.7, sampling_seed=9, exact_window=16)
    page = merged(updates)
    assert generated == [
        GenerationRequest(
            "Once upon a time",
            new_tokens=4,
            temperature=0.7,
            seed=9,
            config=QuantConfig(bits=2),
            exact_window=16,
        )
    ]
    assert "Done · 8 tokens in two streams" in page["generate_status"]
    assert "dog" in page["packed_stream"]
    assert "Generated here" in page["generation"]
    assert set(page) <= set(generate_tab.OUTPUTS)


def test_fields_are_out_of_reach_meanwhile_and_back_after_it(generated):
    updates = generate()
    assert updates[0]["generate"] == gr.update(interactive=False)
    assert updates[0]["generate_stop"] == gr.update(interactive=True)
    assert merged(updates)["prompt"] == gr.update(interactive=True)
    assert merged(updates)["generate_stop"] == gr.update(interactive=False)


def test_the_finding_is_sent_when_it_changes_and_not_with_every_token(generated):
    findings = [update["parting"] for update in generate() if "parting" in update]
    assert findings == [
        "Same for every token so far.",
        "Same for 1 token, then “cat” in full precision against “dog” packed.",
    ]


def test_the_status_does_not_announce_tokens(generated):
    said = [text_of(u["generate_status"]) for u in generate() if "generate_status" in u]
    assert said[-2] == "Generating"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("prompt", "", "Your prompt is empty"),
        ("prompt", " \n ", "Your prompt is empty"),
        ("prompt", None, "Your prompt is empty"),
        ("prompt", "x" * 1_000_001, "1,000,001 bytes"),
        ("new_tokens", 0, "1 to 256"),
        ("new_tokens", 257, "1 to 256"),
        ("new_tokens", 2.5, "whole number"),
        ("new_tokens", None, "whole number"),
        ("temperature", -1, "from 0 to 2"),
        ("temperature", float("nan"), "from 0 to 2"),
        ("temperature", "hot", "must be a number"),
        ("sampling_seed", -1, "from 0 to"),
        ("sampling_seed", 2**40, "from 0 to"),
        ("exact_window", -1, "0 to 128"),
        ("exact_window", 129, "0 to 128"),
        ("exact_window", 1.5, "whole number"),
        ("model", "gpt-9", "Choose one of"),
        ("device", "tpu", "Choose one of"),
        ("bits", 7, "bits is 7"),
    ],
)
def test_bad_input_is_told_at_its_field_and_clears_nothing(generated, field, value, said):
    (update,) = generate(**{field: value})
    assert said in unescape(update[f"{field}_message"])
    assert "Not generated" in update["generate_status"]
    assert generated == []
    assert not {"exact_stream", "packed_stream", "generation", "parting"} & set(update)


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (ValueError("9,000 prompt tokens and 64 new ones are more than 8,192"), "prompt"),
        (ValueError("device 'cuda' is not available"), "device"),
        (MemoryError("out of memory"), "model"),
    ],
)
def test_what_fails_later_is_told_and_gives_the_fields_back(monkeypatch, error, field):
    def fail(request, progress):
        raise error

    monkeypatch.setattr(engine, "first_step", fail)
    page = merged(generate())
    assert str(error) in unescape(page[f"{field}_message"])
    assert page["generate"] == gr.update(interactive=True)
    assert "packed_stream" not in page


def test_closing_midway_closes_the_streams(monkeypatch):
    closed = []

    def rest():
        try:
            while True:
                yield replace(SAME, complete=False)
        finally:
            closed.append(True)

    def first_step(request, progress):
        transcripts = rest()
        return next(transcripts), transcripts

    monkeypatch.setattr(engine, "first_step", first_step)
    updates = GenerateActions(limits.LOCAL, engine.Captures(1)).generate(
        *(DEFAULTS[name] for name in generate_tab.FIELDS)
    )
    for update in updates:
        if "packed_stream" in update:
            break
    updates.close()
    assert closed == [True]


def test_stop_gives_the_fields_back_and_clears_nothing():
    update = GenerateActions(limits.LOCAL, engine.Captures(1)).stop()
    assert "Stopped" in update["generate_status"]
    assert not {"exact_stream", "packed_stream", "parting"} & set(update)


def test_the_space_allows_fewer_tokens(generated):
    values = DEFAULTS | {"new_tokens": 49}
    (update,) = GenerateActions(limits.SPACE, engine.Captures(1)).generate(
        *(values[name] for name in generate_tab.FIELDS)
    )
    assert "1 to 48" in update["new_tokens_message"]


def test_a_saved_sample_reads_back(tmp_path):
    stored = PARTED.to_dict() | {"stamp": {"date": "2026-05-01T10:00:00+00:00"}}
    (tmp_path / f"{sample.NAME}.json").write_text(json.dumps(stored))
    read = sample.read(tmp_path)
    assert (read.transcript, read.date) == (PARTED, "2026-05-01")


def test_the_saved_sample_is_of_the_default_prompt_by_the_tiny_model():
    saved = sample.read()
    assert saved.transcript.request.prompt == next(iter(EXAMPLES.values()))
    assert saved.transcript.model.name == "tiny"
    assert saved.transcript.complete
    assert saved.transcript.request.config == QuantConfig()
