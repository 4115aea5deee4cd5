"""Two continuations of one prompt, side by side: from the model's own cache and from a packed one.

The model reads the prompt once, in chunks and exactly, and the packed cache codes the keys and
values it made, which is what one long prefill would have done; so both streams start from the same
logits. From then on each stream reads its own cache and continues its own tokens: the exact one
under the model's attention, the packed one under "turbo_kv", on packed storage. Chance is shared.

The KL of a step compares two forwards that were given the same tokens. That holds up to and
including the step at which the streams part, and for no later one, so later steps carry none.

Plain continuation: no chat template, and no repetition penalty even if the model asks for one.
"""

from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from turbo_kv.cache.attending import attending
from turbo_kv.cache.attention import NAME as PACKED_ATTENTION
from turbo_kv.cache.kv_cache import Sides, TurboKVCache
from turbo_kv.cache.sampling import Sampler
from turbo_kv.cache.step import Side, Step
from turbo_kv.cache.streaming_text import StreamingText
from turbo_kv.cache.telling import layer_by_layer
from turbo_kv.quant.config import QuantConfig

CHUNK = 512

Progress = Callable[[float, str], None]


def generate_side_by_side(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: torch.Tensor,
    config: QuantConfig,
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    exact_window: int = 0,
    quantize: Sides = "both",
    chunk: int = CHUNK,
    progress: Progress = lambda fraction, text: None,
) -> Iterator[Step]:
    """Continue prompt_ids (1, T), T >= 1, by up to `max_new_tokens`, a step for each position.

    temperature, top_p, seed: of sampling; temperature 0 takes the likeliest token.
    exact_window: how many of the newest tokens the packed cache leaves as they are.
    quantize: which side to code; "neither" is the control, in which both streams agree.
    chunk: how many prompt tokens the model reads at once; `progress` follows them.

    A stream ends at an end-of-text token, which it says; the iterator ends when both have ended.
    Between steps the model attends as before. Closing the iterator frees both caches.
    Raises ValueError, before any work, for a prompt of another shape or without tokens, fewer than
    one new token, more tokens than the model has positions, or a model that the cache refuses.
    """
    _check(model, prompt_ids, max_new_tokens)
    sampler = Sampler(temperature, top_p, seed)
    packed = TurboKVCache.for_model(model, config, exact_window=exact_window, quantize=quantize)
    streams = (
        _Stream(model, tokenizer, DynamicCache(), None),
        _Stream(model, tokenizer, packed, PACKED_ATTENTION),
    )
    read = partial(streams[0].read, prompt_ids.to(model.device), chunk, progress)
    return _steps(*streams, read, max_new_tokens, sampler)


def _steps(
    exact: "_Stream",
    packed: "_Stream",
    read: Callable[[], None],
    max_new_tokens: int,
    sampler: Sampler,
) -> Iterator[Step]:
    start = perf_counter()
    read()
    exact.seconds = perf_counter() - start
    packed.take_over(exact)
    packed.seconds = perf_counter() - start

    shared = True
    for index in range(max_new_tokens):
        if index:
            exact.advance()
            packed.advance()
        kl = _kl(exact.logits, packed.logits) if shared and index else None
        noise = sampler.noise(len(exact.logits))
        last = index == max_new_tokens - 1
        step = Step(index, exact.say(sampler, noise, last), packed.say(sampler, noise, last), kl)
        shared = shared and step.same
        yield step
        if exact.ended and packed.ended:
            return


class _Stream:
    """One continuation: its cache, the logits of its next token, the tokens it has said."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        cache: DynamicCache | TurboKVCache,
        attention: str | None,
    ):
        self.model, self.cache, self.attention = model, cache, attention
        self.text = StreamingText(tokenizer)
        self.end_ids = _end_ids(model)
        self.logits: torch.Tensor  # (V,)
        self.token: int | None = None
        self.ended = False
        self.seconds = 0.0

    def read(self, prompt: torch.Tensor, chunk: int, progress: Progress) -> None:
        """Put the prompt (1, T) into the cache, chunk by chunk."""
        length = prompt.shape[1]

        def tell(begin: int, end: int, share: float) -> None:
            done = round(begin + share * (end - begin))
            progress(done / length, f"Reading the prompt: {done:,} of {length:,} tokens")

        for begin in range(0, length, chunk):
            end = min(begin + chunk, length)
            with layer_by_layer(self.model, partial(tell, begin, end)):
                self._forward(prompt[:, begin:end])
            tell(begin, end, 1.0)

    def take_over(self, other: "_Stream") -> None:
        """Start where `other`, which keeps tensors, stands after the prompt."""
        for index, layer in enumerate(other.cache.layers):
            self.cache.update(layer.keys, layer.values, index)
        self.logits = other.logits

    def advance(self) -> None:
        """Feed the last token said; its seconds include waiting for the device."""
        if self.ended:
            return
        start = perf_counter()
        self._forward(torch.tensor([[self.token]], device=self.model.device))
        self.seconds = perf_counter() - start

    def say(self, sampler: Sampler, noise: torch.Tensor | None, last: bool) -> Side:
        """Pick the next token. Once ended a stream says nothing and holds what it holds."""
        if self.ended:
            return Side(None, "", self.nbytes, 0.0)
        self.token = sampler.pick(self.logits, noise)
        self.ended = self.token in self.end_ids
        text = self.text.push(self.token)
        if self.ended or last:
            text += self.text.flush()
        return Side(self.token, text, self.nbytes, self.seconds)

    @property
    def nbytes(self) -> int:
        """Bytes of storage that the cache holds."""
        if isinstance(self.cache, TurboKVCache):
            return self.cache.nbytes
        return sum(
            states.untyped_storage().nbytes()
            for layer in self.cache.layers
            for states in (layer.keys, layer.values)
        )

    @torch.no_grad()
    def _forward(self, tokens: torch.Tensor) -> None:
        with attending(self.model, self.attention):
            output = self.model(tokens, cache=self.cache, use_cache=True, logits_to_keep=1)
        self.logits = output.logits[0, -1]
        if self.logits.device.type != "cpu":
            torch.accelerator.synchronize(self.logits.device)


@torch.no_grad()
def _kl(exact_logits: torch.Tensor, packed_logits: torch.Tensor) -> float:
    exact = exact_logits.float().log_softmax(-1)
    packed = packed_logits.float().log_softmax(-1)
    return float((exact.exp() * (exact - packed)).sum())


def _end_ids(model: PreTrainedModel) -> set[int]:
    ends = model.generation_config.eos_token_id
    return set() if ends is None else {ends} if isinstance(ends, int) else set(ends)


def _check(model: PreTrainedModel, prompt_ids: torch.Tensor, max_new_tokens: int) -> None:
    if prompt_ids.ndim != 2 or len(prompt_ids) != 1:
        raise ValueError(f"prompt_ids are {tuple(prompt_ids.shape)}; give one prompt, (1, tokens)")
    tokens, limit = prompt_ids.shape[1], model.config.get_text_config().max_position_embeddings
    if tokens == 0:
        raise ValueError("the prompt has no tokens; give at least one")
    if max_new_tokens < 1:
        raise ValueError(f"{max_new_tokens} new tokens were asked for; ask for at least 1")
    if tokens + max_new_tokens > limit:
        raise ValueError(
            f"{tokens:,} prompt tokens and {max_new_tokens:,} new ones are more than the "
            f"{limit:,} positions of this model (max_position_embeddings); shorten the prompt or "
            f"generate fewer tokens"
        )
