"""What two streams said, side by side: request, steps, and what follows from them; its JSON form.

Plain data, without torch. Rates count decoding alone: the first token of each stream comes from
reading the prompt, whose seconds stand apart.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from turbo_kv.cache.step import Side, Step
from turbo_kv.measure.report import ModelFacts, TextFacts
from turbo_kv.quant.config import QuantConfig

Stream = Literal["exact", "packed"]
STREAMS: tuple[Stream, Stream] = ("exact", "packed")

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_BF16 = 2
_MIB = 2**20


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt to continue twice.

    model, device, dtype: as for `Request`. new_tokens: at most, in each stream.
    temperature: 0 for the likeliest token. top_p: share of the mass to sample from.
    seed: of sampling; the seed of `config` is the quantizer's.
    exact_window: how many of the newest tokens the packed cache leaves as they are.
    """

    prompt: str
    model: str = "tiny"
    new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    device: str = "auto"
    config: QuantConfig = field(default_factory=QuantConfig)
    dtype: str = "auto"
    exact_window: int = 0


@dataclass(frozen=True)
class Transcript:
    """Both streams so far; `complete` once the request is fulfilled or both have ended."""

    request: GenerationRequest
    model: ModelFacts
    text: TextFacts
    prompt_tokens: int
    steps: tuple[Step, ...] = ()
    complete: bool = False

    def sides(self, stream: Stream) -> list[Side]:
        """One stream, a side for each step."""
        return [getattr(step, stream) for step in self.steps]

    def tokens(self, stream: Stream) -> int:
        """How many tokens a stream has said, its end-of-text token included."""
        return sum(side.token is not None for side in self.sides(stream))

    def said(self, stream: Stream) -> str:
        return "".join(side.text for side in self.sides(stream))

    @property
    def first_divergence(self) -> int | None:
        """Index of the first step at which the streams differ; None while there is none."""
        return next((step.index for step in self.steps if not step.same), None)

    @property
    def kl(self) -> float | None:
        """Mean KL, in nats, over the `kl_steps` at which both streams had the same history."""
        divergences = [step.kl for step in self.steps if step.kl is not None]
        return sum(divergences) / len(divergences) if divergences else None

    @property
    def kl_steps(self) -> int:
        return sum(step.kl is not None for step in self.steps)

    def cache_bytes(self, stream: Stream) -> int:
        """Storage that a stream's cache holds now."""
        return self.sides(stream)[-1].cache_bytes

    @property
    def bf16_bytes(self) -> int:
        """What the exact cache would hold in bf16, whatever dtype the device computes in."""
        return self.cache_bytes("exact") * _BF16 // _BYTES[self.model.dtype]

    @property
    def ratio(self) -> float:
        """How many times smaller than in bf16 the packed cache is. It may hold other tokens."""
        return self.bf16_bytes / self.cache_bytes("packed")

    def prompt_seconds(self, stream: Stream) -> float:
        """Reading the prompt, which both share; for the packed stream, coding it as well."""
        return self.sides(stream)[0].seconds

    def rate(self, stream: Stream) -> float | None:
        """Tokens per second of decoding; None before the second token."""
        seconds = sum(side.seconds for side in self.sides(stream)[1:])
        return (self.tokens(stream) - 1) / seconds if seconds else None

    @property
    def summary(self) -> str:
        """The finding in a sentence or two."""
        parted, said = self.first_divergence, len(self.steps)
        agreed = "every token" if parted is None else f"the first {parted} of {said} tokens"
        rates = ", ".join(
            f"{self.rate(stream):,.1f} tokens/s {stream}" for stream in STREAMS if self.rate(stream)
        )
        kl = f" KL {self.kl:.4f} nats over {self.kl_steps} tokens." if self.kl_steps else ""
        return (
            f"Both streams agree on {agreed}.{kl} The packed cache holds "
            f"{self.cache_bytes('packed') / _MIB:.2f} MiB where bf16 takes "
            f"{self.bf16_bytes / _MIB:.2f} ({self.ratio:.2f}×){'; ' if rates else ''}{rates}."
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` reads it back."""
        request = asdict(self.request)
        return {
            "model": asdict(self.model),
            "prompt": {"text": request.pop("prompt"), "tokens": self.prompt_tokens},
            "text": asdict(self.text),
            "config": request.pop("config"),
            "request": request,
            "complete": self.complete,
            "first_divergence": self.first_divergence,
            "kl": {
                "mean": self.kl,
                "steps": self.kl_steps,
                "per_step": [step.kl for step in self.steps],
            },
            "memory": {
                "bf16_bytes": self.bf16_bytes,
                "after_bytes": self.cache_bytes("packed"),
                "ratio": self.ratio,
            },
            **{stream: self._stream(stream) for stream in STREAMS},
        }

    def _stream(self, stream: Stream) -> dict[str, Any]:
        sides = self.sides(stream)
        return {
            "text": self.said(stream),
            "prompt_seconds": self.prompt_seconds(stream),
            "tokens_per_second": self.rate(stream),
            "per_step": [asdict(side) for side in sides],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Transcript":
        """Rebuild what `to_dict` wrote. Raises KeyError when a part is missing."""
        request = GenerationRequest(
            prompt=data["prompt"]["text"],
            config=QuantConfig(**data["config"]),
            **data["request"],
        )
        sides = [[Side(**side) for side in data[stream]["per_step"]] for stream in STREAMS]
        return cls(
            request=request,
            model=ModelFacts(**data["model"]),
            text=TextFacts(**data["text"] | {"notes": tuple(data["text"]["notes"])}),
            prompt_tokens=data["prompt"]["tokens"],
            steps=tuple(
                Step(index, exact, packed, kl)
                for index, (exact, packed, kl) in enumerate(zip(*sides, data["kl"]["per_step"]))
            ),
            complete=data["complete"],
        )
