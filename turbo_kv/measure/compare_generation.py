"""From a request to two streams: load the model, read the prompt, generate side by side.

Knows the order of things; how a step is made is `cache.generate`'s.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from turbo_kv.cache.generate import generate_side_by_side
from turbo_kv.measure.facts import model_facts, text_facts
from turbo_kv.measure.transcript import GenerationRequest, Transcript
from turbo_kv.models.load import load
from turbo_kv.models.memory import explained, reading, refuse_unless_fits
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.prompt import prepare_prompt


def compare_generation(
    request: GenerationRequest, progress: Progress = silent
) -> Iterator[Transcript]:
    """Yield the transcript after every step, one step longer each time, and once complete.

    `progress` is called until the first step. Closing the iterator frees the caches. Raises
    ValueError for what cannot be loaded, read or generated.
    """
    loaded = load(
        request.model,
        request.device,
        lambda done, said: progress(0.5 * done, said),
        dtype=request.dtype,
    )
    prompt = prepare_prompt(loaded.tokenizer, request.prompt)
    need = reading(loaded.model.config.get_text_config(), loaded.dtype.itemsize, caches=2)
    tokens = prompt.tokens.shape[1] + request.new_tokens
    refuse_unless_fits(need, tokens, loaded.device, "the prompt and two continuations")
    transcript = Transcript(
        request, model_facts(loaded), text_facts(prompt), prompt.tokens.shape[1]
    )
    steps = generate_side_by_side(
        loaded.model,
        loaded.tokenizer,
        prompt.tokens,
        request.config,
        request.new_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        exact_window=request.exact_window,
        progress=lambda done, said: progress(0.5 + 0.5 * done, said),
    )
    with closing(steps), explained(loaded.device, "continuing the prompt"):
        for step in steps:
            transcript = replace(transcript, steps=(*transcript.steps, step))
            yield transcript
    yield replace(transcript, complete=True)
