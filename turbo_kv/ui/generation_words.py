"""The sentences of the tab Generate: where the streams part, what the cache holds, who is faster.

Every one has a form for better, for worse and for no difference.
"""

from turbo_kv.measure.transcript import Transcript
from turbo_kv.ui import numbers
from turbo_kv.ui.language import counted, say

ALIKE = 1.05
"""Two speeds within this factor count as equal: less is noise."""


def parting(transcript: Transcript) -> str:
    """How long the streams agree and what each said where they part."""
    index, so_far = transcript.first_divergence, len(transcript.steps)
    if index is None:
        whole = "all" if transcript.complete else "so_far"
        return say(f"generate.part.{whole}", tokens=counted("tokens", so_far))
    before = "".join(step.exact.text for step in transcript.steps[:index])
    step = transcript.steps[index]
    exact, packed = quoted(*(_word(before, side.text) for side in (step.exact, step.packed)))
    return say("generate.part.then", tokens=counted("tokens", index), exact=exact, packed=packed)


def memory(transcript: Transcript) -> str:
    """Both caches as they are in storage now, compared in bf16."""
    factor = transcript.ratio
    sizes = say(
        "generate.sizes",
        exact=numbers.mib(transcript.bf16_bytes),
        packed=numbers.mib(transcript.cache_bytes("packed")),
    )
    if factor >= 1:
        return say("generate.smaller", factor=f"{factor:.2f}", sizes=sizes)
    return say("generate.larger", factor=f"{1 / factor:.1f}", sizes=sizes)


def speed(transcript: Transcript) -> str:
    """Which stream decodes faster on this machine, said as it is."""
    exact, packed = transcript.rate("exact"), transcript.rate("packed")
    if exact is None or packed is None:
        return say("generate.shared")
    factor = packed / exact
    rates = say("generate.rates", exact=numbers.rate(exact), packed=numbers.rate(packed))
    if factor >= ALIKE:
        return say("generate.faster", factor=f"{factor:.2f}", rates=rates)
    if factor <= 1 / ALIKE:
        return say("generate.slower", factor=f"{1 / factor:.2f}", rates=rates)
    return say("generate.equal", rates=rates)


def divergence(transcript: Transcript) -> str:
    """Running KL and what it covers."""
    if transcript.kl is None:
        return say("generate.no_kl")
    kl, tokens = numbers.nats(transcript.kl), counted("tokens", transcript.kl_steps)
    until = "generate.kl" if transcript.first_divergence is None else "generate.kl_until"
    return say(until, kl=kl, tokens=tokens)


def quoted(*texts: str) -> list[str]:
    """Texts in quotes; blanks around them go unless they are what differs."""
    if len({text.strip(" ") for text in texts} - {""}) == len(texts):
        texts = [text.strip(" ") for text in texts]
    visible = [text.replace("\n", "↵").replace("\t", "⇥") for text in texts]
    return [f"“{text}”" if text else say("generate.part_character") for text in visible]


def _word(before: str, token: str) -> str:
    """A token, after the beginning of the word that it continues."""
    continues = token[:1].strip() and before[-1:].strip()
    return before.rsplit(maxsplit=1)[-1] + token if continues else token
