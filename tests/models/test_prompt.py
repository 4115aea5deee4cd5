"""A prompt is taken whole: cleaned, tokenized, never cut, and at least one token long."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.models.prompt import prepare_prompt
from turbo_kv.models.text import MAXIMUM_BYTES, clean


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"])))
def test_a_clean_prompt_comes_back_from_its_tokens(tokenizer, text):
    if not text.strip():
        return
    prepared = prepare_prompt(tokenizer, text)
    assert tokenizer.decode(prepared.tokens[0]) == text
    assert prepared.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert prepared.notes == ()


def test_one_token_is_enough(tokenizer):
    assert prepare_prompt(tokenizer, "a").tokens.shape == (1, 1)


def test_names_of_special_tokens_are_plain_text(tokenizer):
    tokens = prepare_prompt(tokenizer, "<|endoftext|>").tokens
    assert tokenizer.eos_token_id not in tokens


def test_control_characters_are_left_out_and_counted(tokenizer):
    prepared = prepare_prompt(tokenizer, "one\x00two\x1b three\ud800")
    assert tokenizer.decode(prepared.tokens[0]) == clean("onetwo three")[0]
    assert prepared.notes == ("Left out 3 control characters of the prompt.",)


@pytest.mark.parametrize("prompt", ["", "  \n\t ", "\x00\x01"])
def test_an_empty_prompt_is_refused(tokenizer, prompt):
    with pytest.raises(ValueError, match="empty"):
        prepare_prompt(tokenizer, prompt)


def test_more_than_a_megabyte_is_refused(tokenizer):
    with pytest.raises(ValueError, match="1,000,001 bytes"):
        prepare_prompt(tokenizer, "a" * (MAXIMUM_BYTES + 1))
