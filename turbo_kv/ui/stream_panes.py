"""One stream as HTML: what its cache holds and how fast it is, then what it said.

Tokens that differ carry a sign and an underline as well as a colour. Everything that a model or a
visitor wrote is escaped.
"""

from html import escape
from itertools import groupby

from turbo_kv.measure.transcript import Stream, Transcript
from turbo_kv.ui import numbers, wording
from turbo_kv.ui.language import say

PROMPT_SHOWN = 160
"""Characters of the prompt's end that stand before the tokens."""

SIGN = "≠"


def html(transcript: Transcript, stream: Stream) -> str:
    """One stream under its name, its counters above its text."""
    name = f"{stream}-name"
    counters = "".join(
        f"<div><dt>{what}</dt><dd><b>{figure}</b> <small>{detail}</small></dd></div>"
        for what, figure, detail in (
            _cache(transcript, stream),
            (
                say("stream.decoding"),
                say("stream.rate", rate=numbers.rate(transcript.rate(stream))),
                "",
            ),
            _reading(transcript, stream),
        )
    )
    return (
        f'<section class="stream" aria-labelledby="{name}"><h3 id="{name}">{_title(stream)} '
        f"<small>{escape(_subtitle(transcript, stream))}</small></h3><dl>{counters}</dl>"
        f'<p class="said"><span class="asked">{_prompt(transcript.request.prompt)}</span>'
        f"{_tokens(transcript, stream)}</p></section>"
    )


def _title(stream: Stream) -> str:
    return say(f"stream.{stream}")


def _subtitle(transcript: Transcript, stream: Stream) -> str:
    said = say(
        "stream.progress",
        done=f"{transcript.tokens(stream):,}",
        tokens=f"{transcript.request.new_tokens:,}",
    )
    if stream == "exact":
        return f"{say('stream.own')} · {said}"
    stored = [wording.setting(transcript.request.config, ["bits", "centering"])]
    if transcript.request.exact_window:
        stored.append(say("generate.newest", tokens=transcript.request.exact_window))
    return " · ".join([*stored, said])


def _cache(transcript: Transcript, stream: Stream) -> tuple[str, str, str]:
    size = f"{numbers.mib(transcript.cache_bytes(stream))} MiB"
    if stream == "packed" or transcript.model.dtype == "bfloat16":
        return say("stream.cache"), size, ""
    bf16 = say("stream.bf16", size=numbers.mib(transcript.bf16_bytes))
    return say("stream.cache"), size, f"{transcript.model.dtype}; {bf16}"


def _reading(transcript: Transcript, stream: Stream) -> tuple[str, str, str]:
    shared = transcript.prompt_seconds("exact")
    if stream == "exact":
        return say("stream.prompt"), f"{shared:.2f} s", say("stream.both")
    coded = transcript.prompt_seconds("packed") - shared
    return say("stream.prompt"), f"+ {coded:.2f} s", say("stream.coded")


def _prompt(prompt: str) -> str:
    if len(prompt) > PROMPT_SHOWN:
        end = prompt[-PROMPT_SHOWN:]
        prompt = "… " + (end.partition(" ")[2] or end)
    return escape(prompt)


def _tokens(transcript: Transcript, stream: Stream) -> str:
    """Tokens in runs of same and different; where the streams part stands out."""
    parts = []
    for same, run in groupby(transcript.steps, lambda step: step.same):
        steps = list(run)
        texts = [getattr(step, stream).text for step in steps]
        if same:
            parts.append(escape("".join(texts)))
        elif steps[0].index == transcript.first_divergence:
            parts.append(_marked(texts[0], "".join(texts[1:])))
        else:
            parts.append(_marked("", "".join(texts)))
    return "".join(parts)


def _marked(first: str, rest: str) -> str:
    """A run that differs: a sign before it, underlined, its `first` token strongly."""
    if not first + rest:
        return ""
    blank = "" if first.isspace() else first[: len(first) - len(first.lstrip(" "))]
    strong = f"<strong>{_visible(first[len(blank) :])}</strong>" if first else ""
    return f"{blank}<mark><i>{SIGN}</i>{strong}{_visible(rest)}</mark>"


def _visible(text: str) -> str:
    return escape(text.replace("\n", "↵\n"))
