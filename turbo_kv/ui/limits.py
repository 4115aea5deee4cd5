"""What this host allows, and every field of the form checked again on the server.

The browser enforces neither slider steps nor text lengths, and an API caller skips it. Knows the
models' published facts and nothing of torch.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from turbo_kv.measure.planner import GIB, PlanRequest
from turbo_kv.measure.report import Request
from turbo_kv.measure.transcript import GenerationRequest
from turbo_kv.models.catalog import CATALOG
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui.language import heard, say

MINIMUM_CONTEXT = 16
DEVICES = ("auto", "cpu", "cuda", "mps")
SOURCES = ("Python language reference", "Standard library source", "Prose")
"""The built-in texts, by the names under which the models' side reads them."""

OWN_TEXT = "My own text"
MAXIMUM_TEMPERATURE = 2
LARGEST_WINDOW = 128  # as many as the GPU kernels take
LONGEST_PLAN = 131_072
LARGEST_BATCH = 64
LARGEST_DEVICE = 10_000
"""GiB: a rack of accelerators."""


@dataclass(frozen=True)
class Limits:
    """What one host offers.

    context, new_tokens: the most to read and to generate.
    captures, capture_bytes: prompts kept for switches, over all visitors.
    stage_seconds: for loading and reading, for measuring, for generating; None for no end.
    sessions: visitors remembered. per_minute, all_per_minute: requests of one and of all; 0 for
    any number.
    """

    models: tuple[str, ...]
    context: int
    new_tokens: int
    text_bytes: int
    captures: int
    capture_bytes: int = 4_000_000_000
    stage_seconds: float | None = None
    sessions: int = 100
    per_minute: int = 0
    all_per_minute: int = 0


LOCAL = Limits(tuple(CATALOG), context=131_072, new_tokens=256, text_bytes=1_000_000, captures=3)
SPACE = Limits(
    ("tiny", "Qwen2.5-0.5B", "Qwen2.5-0.5B-Instruct"),
    context=2_048,
    new_tokens=48,
    text_bytes=200_000,
    captures=8,
    capture_bytes=2_000_000_000,
    stage_seconds=120,
    sessions=500,
    per_minute=60,
    all_per_minute=600,
)
ZERO_GPU = replace(
    SPACE,
    models=(*SPACE.models, "Qwen2.5-1.5B", "Qwen2.5-1.5B-Instruct"),
    context=8_192,
    new_tokens=128,
    stage_seconds=60,
)

QUEUE = 16
"""Visitors that may wait for the model; the next one is told that the queue is full."""

Function = TypeVar("Function", bound=Callable[..., Any])


def here() -> Limits:
    """The limits of this host: a Space names itself in SPACE_ID, and its borrowed GPUs."""
    if not is_hosted():
        return LOCAL
    return ZERO_GPU if borrows_gpu() else SPACE


def is_hosted() -> bool:
    """Whether strangers are served."""
    return bool(os.environ.get("SPACE_ID"))


def borrows_gpu() -> bool:
    """Whether this is a Space that gets a GPU for one call at a time."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def on_gpu(function: Function) -> Function:
    """The function, run where a borrowed GPU is; as it is on a host that has its own or none.

    Its arguments and results must pickle. The time declared is what a visitor's quota is held to.
    """
    if not borrows_gpu():
        return function
    import spaces

    return spaces.GPU(duration=round(ZERO_GPU.stage_seconds))(function)


class FieldError(ValueError):
    """A field of the form that cannot be used; the message belongs beside it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def check(form: Mapping[str, Any], limits: Limits) -> Request:
    """The form's values as a request. Raises FieldError."""
    own = form["source"] == OWN_TEXT
    source = {} if own else {"source": _source(form["source"])}
    return Request(
        model=_model(form["model"], limits),
        text=_text(form["text"], limits) if own else None,
        context=_context(form["context"], form["model"], limits),
        device=_device(form["device"]),
        config=config(form),
        **source,
    )


def reading(request: Request, name: str, value: object, limits: Limits) -> Request:
    """The request with another model, context or source. Raises FieldError."""
    checked = {
        "model": lambda: _model(value, limits),
        "context": lambda: _context(value, request.model, limits),
        "source": lambda: _source(value),
    }[name]()
    return replace(request, **{name: checked})


def generation(form: Mapping[str, Any], limits: Limits) -> GenerationRequest:
    """The run bar's and the tab Generate's values as a request. Raises FieldError."""
    new_tokens = _whole("new_tokens", form["new_tokens"])
    if not 1 <= new_tokens <= limits.new_tokens:
        raise FieldError("new_tokens", say("limit.new_tokens", most=limits.new_tokens))
    temperature = form["temperature"]
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise FieldError("temperature", say("limit.temperature_number"))
    if not 0 <= temperature <= MAXIMUM_TEMPERATURE:
        raise FieldError("temperature", say("limit.temperature", most=MAXIMUM_TEMPERATURE))
    sampling_seed = _whole("sampling_seed", form["sampling_seed"])
    if not 0 <= sampling_seed < 2**31:
        raise FieldError("sampling_seed", say("limit.seed"))
    exact_window = _whole("exact_window", form["exact_window"])
    if not 0 <= exact_window <= LARGEST_WINDOW:
        raise FieldError("exact_window", say("limit.exact_window", most=LARGEST_WINDOW))
    return GenerationRequest(
        prompt=_text(form["prompt"], limits, "prompt"),
        model=_model(form["model"], limits),
        new_tokens=new_tokens,
        temperature=float(temperature),
        seed=sampling_seed,
        device=_device(form["device"]),
        config=config(form),
        exact_window=exact_window,
    )


def planning(form: Mapping[str, Any]) -> PlanRequest:
    """The tab Plan's values as a request; `memory` is in GiB. Raises FieldError."""
    tokens = _within("plan_context", "limit.name.context", form["plan_context"], LONGEST_PLAN)
    batch = _within("plan_batch", "limit.name.batch", form["plan_batch"], LARGEST_BATCH)
    memory = form["plan_memory"]
    if isinstance(memory, bool) or not isinstance(memory, int | float):
        raise FieldError("plan_memory", say("limit.memory_number"))
    if not 1 <= memory <= LARGEST_DEVICE:
        raise FieldError("plan_memory", say("limit.memory", most=f"{LARGEST_DEVICE:,}"))
    return PlanRequest(tokens, batch, round(memory * GIB), config(form))


def _within(field: str, name: str, value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise FieldError(field, say("limit.whole", name=say(name)))
    if not 1 <= value <= most:
        raise FieldError(field, _range(name, value, most))
    return int(value)


def config(form: Mapping[str, Any]) -> QuantConfig:
    """The switches as a configuration. Raises FieldError naming the field."""
    seed = _whole("seed", form["seed"])
    chosen = {name: form[name] for name in QuantConfig.__dataclass_fields__ if name != "seed"}
    try:
        return QuantConfig(seed=seed, **chosen)
    except ValueError as error:
        field = "seed" if str(error).startswith("seed") else "bits"
        raise FieldError(field, heard("error", str(error))) from error


def upload(path: str, limits: Limits) -> str:
    """The text of an uploaded file. Raises FieldError unless it is UTF-8 text within the limit."""
    file = Path(path)
    if file.suffix.lower() != ".txt":
        raise FieldError("text", say("limit.suffix", suffix=file.suffix or say("limit.this_file")))
    if file.stat().st_size > limits.text_bytes:
        raise FieldError("text", _too_long(file.stat().st_size, limits))
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FieldError("text", say("limit.utf8")) from error


def _model(model: object, limits: Limits) -> str:
    if model not in limits.models:
        raise FieldError("model", _one_of(limits.models))
    return model


def _text(text: object, limits: Limits, field: str = "text") -> str:
    if not isinstance(text, str) or not text.strip():
        raise FieldError(field, say(f"limit.empty.{field}"))
    size = len(text.encode(errors="surrogatepass"))
    if size > limits.text_bytes:
        raise FieldError(field, _too_long(size, limits))
    return text


def _too_long(size: int, limits: Limits) -> str:
    return say("limit.bytes", size=f"{size:,}", most=f"{limits.text_bytes:,}")


def _context(value: object, model: str, limits: Limits) -> int:
    context = _whole("context", value)
    longest = min(CATALOG[model].max_position_embeddings, limits.context)
    if not MINIMUM_CONTEXT <= context <= longest:
        raise FieldError(
            "context",
            say(
                "limit.context",
                context=f"{context:,}",
                model=model,
                least=MINIMUM_CONTEXT,
                most=f"{longest:,}",
            ),
        )
    return context


def _source(source: object) -> str:
    if source not in SOURCES:
        raise FieldError("text", _one_of([heard("name", name) for name in (*SOURCES, OWN_TEXT)]))
    return source


def _device(device: object) -> str:
    if device not in DEVICES:
        raise FieldError("device", _one_of(DEVICES))
    return device


def _one_of(names: Sequence[str]) -> str:
    return say("limit.one_of", names=say("list.comma").join(names))


def _range(name: str, value: float, most: int) -> str:
    return say("limit.range", name=say(name), value=f"{value:,.0f}", most=f"{most:,}")


def _whole(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise FieldError(field, say("limit.whole", name=say(f"limit.name.{field}")))
    return int(value)
