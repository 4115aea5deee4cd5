"""Laws of evaluation texts: windows follow one another, nothing is read twice or made up."""

import sys
from types import SimpleNamespace

import pytest
from byte_tokenizer import byte_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.bench.evaluation_text import EvaluationText, cut, read_text
from turbo_kv.models.text import DEFAULT_SOURCE

TOKENIZER = byte_tokenizer()


@given(st.integers(1, 400), st.integers(1, 60), st.integers(0, 12))
def test_windows_are_the_text_in_order(length, context, windows):
    text = EvaluationText("a text", "".join(chr(97 + i % 26) for i in range(length)), windows)
    ids = TOKENIZER(text.text)["input_ids"]
    whole = len(ids) // context
    if whole == 0:
        with pytest.raises(ValueError, match="fewer than one window"):
            cut(TOKENIZER, text, context)
        return
    tokens = cut(TOKENIZER, text, context).tokens
    assert tokens.shape == (min(windows or whole, whole), context)
    assert tokens.flatten().tolist() == ids[: tokens.numel()]


def test_the_settings_are_told():
    notes = cut(TOKENIZER, EvaluationText("a text", "x" * 100, 2), 30).notes
    assert notes == ("2 of 3 windows of 30 tokens, stride 30.",)


def test_without_a_file_it_is_the_default_text():
    assert read_text(None).name == DEFAULT_SOURCE


def test_a_file_is_named_without_its_folder(tmp_path):
    path = tmp_path / "wiki.test.raw"
    path.write_text("Grüße", encoding="utf-8")
    text = read_text(str(path), 3)
    assert (text.name, text.text, text.windows) == ("wiki.test.raw", "Grüße", 3)


def test_wikitext_is_its_test_split_joined_by_blank_lines(monkeypatch):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        return {"text": [" = A = \n", "b"]}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert read_text("wikitext-2").text == " = A = \n\n\nb"
    assert asked == [(("Salesforce/wikitext", "wikitext-2-raw-v1"), {"split": "test"})]


def test_what_cannot_be_had_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="pip install datasets"):
        read_text("wikitext-2")
    with pytest.raises(ValueError, match="give a file, or wikitext-2"):
        read_text(str(tmp_path))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="cannot read"):
        read_text(str(tmp_path / "latin.txt"))
    with pytest.raises(ValueError, match="windows is -1"):
        read_text(None, -1)
