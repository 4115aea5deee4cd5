"""The sentences of the tab Generate: where the streams part, what the cache holds, who is faster.

Every one has a form for better, for worse and for no difference.
"""

from turbo_kv.measure.transcript import Transcript
from turbo_kv.ui import numbers

ALIKE = 1.05
"""Two speeds within this factor count as equal: less is noise."""


def parting(transcript: Transcript) -> str:
    """How long the streams agree and what each said where they part."""
    index, said = transcript.first_divergence, len(transcript.steps)
    if index is None:
        every = f"all {_tokens(said)}" if transcript.complete else "every token so far"
        return f"Same for {every}."
    before = "".join(step.exact.text for step in transcript.steps[:index])
    step = transcript.steps[index]
    exact, packed = quoted(*(_word(before, side.text) for side in (step.exact, step.packed)))
    return f"Same for {_tokens(index)}, then {exact} in full precision against {packed} packed."


def memory(transcript: Transcript) -> str:
    """Both caches as they are in storage now, compared in bf16."""
    factor = transcript.ratio
    sizes = (
        f"{numbers.mib(transcript.bf16_bytes)} MiB in bf16 against "
        f"{numbers.mib(transcript.cache_bytes('packed'))} MiB packed"
    )
    if factor >= 1:
        return f"The packed cache is {factor:.2f} times smaller: {sizes}."
    return (
        f"So short a text gains nothing, since pages hold 64 tokens: {sizes}, which is "
        f"{1 / factor:.1f} times more."
    )


def speed(transcript: Transcript) -> str:
    """Which stream decodes faster on this machine, said as it is."""
    exact, packed = transcript.rate("exact"), transcript.rate("packed")
    if exact is None or packed is None:
        return "The first token comes from the prompt, which both streams share."
    factor = packed / exact
    rates = f"{numbers.rate(packed)} against {numbers.rate(exact)} tokens/s"
    if factor >= ALIKE:
        return f"Packed is {factor:.2f} times faster here: {rates}."
    if factor <= 1 / ALIKE:
        return f"Packed is {1 / factor:.2f} times slower here: {rates}. It saves memory, not time."
    return f"Both are equally fast here: {rates}."


def divergence(transcript: Transcript) -> str:
    """Running KL and what it covers."""
    if transcript.kl is None:
        return "No token has been read from the packed cache yet."
    divergence = f"{numbers.nats(transcript.kl)} nats over {_tokens(transcript.kl_steps)}"
    if transcript.first_divergence is not None:
        divergence += ", up to where the streams part: later ones have no common past"
    return f"Running KL of the next token, packed from exact: {divergence}."


def quoted(*texts: str) -> list[str]:
    """Texts in quotes; blanks around them go unless they are what differs."""
    if len({text.strip(" ") for text in texts} - {""}) == len(texts):
        texts = [text.strip(" ") for text in texts]
    visible = [text.replace("\n", "↵").replace("\t", "⇥") for text in texts]
    return [f"“{text}”" if text else "part of a character" for text in visible]


def _word(before: str, token: str) -> str:
    """A token, after the beginning of the word that it continues."""
    continues = token[:1].strip() and before[-1:].strip()
    return before.rsplit(maxsplit=1)[-1] + token if continues else token


def _tokens(count: int) -> str:
    return f"{count:,} token" if count == 1 else f"{count:,} tokens"
