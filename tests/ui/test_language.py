"""Laws of the page's words: both languages say everything, with the same parts, nothing else."""

import ast
import re
from pathlib import Path
from string import Formatter

from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.measure.methods import methods
from turbo_kv.measure.prompts import EXAMPLES
from turbo_kv.ui import language, measured
from turbo_kv.ui.compare_words import called
from turbo_kv.ui.language import LANGUAGES, heard, say, sentences, speaking, speaks, spoken
from turbo_kv.ui.limits import OWN_TEXT, SOURCES

UI = Path(language.__file__).parent
MODULES = sorted(UI.rglob("*.py"))
HAN = re.compile("[\u4e00-\u9fff]")
WORD = re.compile(r"[a-z]{3,}")
NAMES = {
    *(
        "token",
        "nat",
        "logit",
        "softmax",
        "tiny",
        "trellis",
        "fast",
        "query",
        "hub",
        "float32",
    ),
    *("lloyd", "max", "loyd", "adamard", "cpu", "cuda", "mps", "torch", "eager", "txt", "python"),
    *("wen", "bfloat16", "ython", "turbo_kv", "bench", "family", "models", "shape", "contexts"),
}


def parts(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


def test_every_language_says_the_same_with_the_same_parts():
    english, *others = (sentences(code) for code in LANGUAGES)
    for other in others:
        assert set(other) == set(english)
        assert not [key for key in english if parts(other[key]) != parts(english[key])]
        assert not [key for key, sentence in other.items() if not sentence and english[key].strip()]


def spelled() -> tuple[set[str], list[re.Pattern]]:
    """Every string of the code, and those put together, as patterns of what they can be."""
    strings, patterns = set(), []
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.add(node.value)
            if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                texts = (getattr(value, "value", None) for value in node.values)
                spelling = [re.escape(t) if isinstance(t, str) else r"[\w-]+" for t in texts]
                patterns.append(re.compile("".join(spelling)))
    return strings, [pattern for pattern in patterns if re.match(r"[a-z]+\\\.", pattern.pattern)]


def test_no_sentence_is_unused():
    strings, patterns = spelled()
    counted = {f"{key}.{form}" for key in strings for form in ("one", "many")}
    kinds = {key.split(".")[1] for key in sentences("en") if key.startswith("heard.")}
    assert kinds <= strings
    unused = [
        key
        for key in sentences("en")
        if key not in strings | counted
        and not key.startswith("heard.")
        and not any(pattern.fullmatch(key) for pattern in patterns)
    ]
    assert unused == []


def test_every_key_in_the_code_has_its_sentence():
    asked = [
        node.args[0].value
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") in ("say", "unfilled")
        and isinstance(node.args[0], ast.Constant)
    ]
    assert len(asked) > 100
    assert [key for key in asked if key not in sentences("en")] == []


@given(st.text(), st.integers(0, 10**6))
def test_parts_are_put_in_as_they_are(name, count):
    for code in LANGUAGES:
        with speaking(code):
            said = say("heard.note.cut", name=name, count=count, context=1)
            assert name in said
            assert str(count) in said


@given(st.text("abc,.:; ", min_size=1), st.integers(1, 10**6))
def test_what_a_lower_layer_says_is_said_again_with_its_parts(name, count):
    told = say("heard.progress.loading", model=name, device="cpu", reason=count)
    with speaking("zh"):
        again = heard("progress", told)
        assert HAN.search(again)
        assert str(count) in again
        assert heard("progress", "no such sentence") == "no such sentence"
    assert heard("progress", told) == told


def english(texts: list[str]) -> list[str]:
    """Those that say anything in plain English words which are no names."""
    return [text for text in texts if set(WORD.findall(text)) - NAMES]


def test_every_method_claim_and_text_is_known_in_chinese():
    with speaking("zh"):
        assert english([called(name) for name in methods()]) == []
        claims = measured.read()["claims"]
        assert english([heard("claim", claim["claim"]) for claim in claims]) == []
        assert english([heard("claim", claim["how"]) for claim in claims]) == []
        assert english([heard("name", name) for name in (*SOURCES, OWN_TEXT, "your text")]) == []
        assert english([heard("example", name) for name in EXAMPLES if name != "Python"]) == []


def test_a_generator_speaks_its_language_at_every_step_and_ends_when_closed():
    ended = []

    def steps():
        try:
            yield spoken()
            yield spoken()
        finally:
            ended.append(spoken())

    stream = speaks("zh", steps)()
    assert [next(stream), spoken(), next(stream)] == ["zh", "en", "zh"]
    stream.close()
    assert ended
    assert speaks("zh", spoken)() == "zh"
