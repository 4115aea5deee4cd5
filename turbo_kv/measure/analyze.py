"""The straight line: read a text with a model, store its cache as asked, measure what changed.

`prepare` is slow and worth keeping; `measure` repeats in a moment for any other choice of bits,
rotation, sketch or centring. Knows the order of things, not how any of them is done.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch

from turbo_kv.cache.capture import Capture, capture
from turbo_kv.kernels import choose
from turbo_kv.measure.facts import model_facts, text_facts
from turbo_kv.measure.metrics import ExactAttention, cosine, relative_mse
from turbo_kv.measure.report import LayerReport, ModelFacts, Report, Request, TextFacts
from turbo_kv.measure.roundtrip import roundtrip
from turbo_kv.models.load import LoadedModel, load
from turbo_kv.models.memory import explained, reading, refuse_unless_fits
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.text import DEFAULT_SOURCE, PreparedText
from turbo_kv.models.text import prepare as prepare_text
from turbo_kv.quant.config import QuantConfig

BF16_BYTES = 2


@dataclass(frozen=True, eq=False)
class Prepared:
    """A captured text, ready to be measured again and again.

    decode: the text of a token id. timing: seconds of each step so far.
    """

    model: ModelFacts
    text: TextFacts
    capture: Capture
    exact: tuple[ExactAttention, ...]
    decode: Callable[[int], str]
    timing: dict[str, float]


def analyze(
    model: str = "tiny",
    text: str | None = None,
    context: int = 2048,
    device: str = "auto",
    config: QuantConfig = QuantConfig(),  # noqa: B008 (frozen)
    *,
    source: str = DEFAULT_SOURCE,
    dtype: str = "auto",
    progress: Progress = silent,
) -> Report:
    """Measure what storing keys and values as `config` says does to a model's attention.

    The keywords are Request's. Raises ValueError for what cannot be loaded, read or stored.
    """
    request = Request(model, text, context, device, config, source, dtype)
    prepared = prepare(request, lambda fraction, said: progress(0.7 * fraction, said))
    for report in measure(prepared, request.config):
        done = len(report.layers)
        progress(0.7 + 0.3 * done / report.model.layers, f"Measured layer {done - 1}")
    return report


def prepare(request: Request, progress: Progress = silent) -> Prepared:
    """Load the model, cut the text, run it once and keep what attention saw."""
    clock = _Clock()
    loaded = load(
        request.model,
        request.device,
        lambda fraction, said: progress(0.3 * fraction, said),
        dtype=request.dtype,
    )
    clock.lap("load")
    limit = loaded.model.config.get_text_config().max_position_embeddings
    cut = prepare_text(loaded.tokenizer, request.text, request.context, limit, request.source)
    clock.lap("text")
    prepared = read(loaded, cut, lambda fraction, said: progress(0.3 + 0.7 * fraction, said))
    return replace(prepared, timing=clock.laps | prepared.timing)


def read(loaded: LoadedModel, text: PreparedText, progress: Progress = silent) -> Prepared:
    """Run a loaded model once over a prepared text and keep what attention saw.

    Raises ValueError for a text that does not fit into memory beside the model.
    """
    clock = _Clock()
    tokens = text.tokens.shape[1]
    need = reading(loaded.model.config.get_text_config(), loaded.dtype.itemsize)
    refuse_unless_fits(need, tokens, loaded.device, "reading them and comparing a layer")
    with explained(loaded.device, f"reading {tokens:,} tokens"):
        captured = capture(loaded.model, text.tokens, progress=progress)
        clock.lap("capture")
        with torch.inference_mode():
            exact = tuple(
                ExactAttention(layer.queries, layer.keys, layer.values, layer.scaling)
                for layer in captured.layers
            )
    clock.lap("exact")
    return Prepared(
        model=model_facts(loaded),
        text=text_facts(text),
        capture=captured,
        exact=exact,
        decode=loaded.tokenizer.decode,
        timing=clock.laps,
    )


def measure(prepared: Prepared, config: QuantConfig) -> Iterator[Report]:
    """Store, restore and compare layer by layer; a report grows by one layer each time."""
    report = Report(
        model=prepared.model,
        text=prepared.text,
        tokens=prepared.capture.tokens.shape[1],
        config=config,
        queries=prepared.capture.layers[0].queries.shape[2],
        path=choose.path(prepared.capture.tokens.device, config),
    )
    seconds = 0.0
    for index in range(report.model.layers):
        start = perf_counter()
        with explained(prepared.capture.layers[index].keys.device, f"comparing layer {index}"):
            layer = measure_layer(prepared, index, config)
        seconds += perf_counter() - start
        timing = prepared.timing | {"measure": seconds}
        report = replace(report, layers=(*report.layers, layer), timing=timing)
        yield report


@torch.inference_mode()
def measure_layer(prepared: Prepared, index: int, config: QuantConfig) -> LayerReport:
    """Store and restore one captured layer and compare it with what it was."""
    layer = prepared.capture.layers[index]
    restored = roundtrip(prepared.capture, index, config)
    keys, values = layer.keys.float(), layer.values.float()
    attention = prepared.exact[index].compare(restored.keys, restored.values)
    return LayerReport(
        layer=index,
        key_cosine=_numpy(cosine(keys, restored.keys)),
        value_cosine=_numpy(cosine(values, restored.values)),
        key_relative_mse=_numpy(relative_mse(keys, restored.keys)),
        value_relative_mse=_numpy(relative_mse(values, restored.values)),
        attention_kl=_numpy(attention.kl),
        logit_correlation=_numpy(attention.logit_correlation),
        top1=_numpy(attention.top1),
        output_relative_error=_numpy(attention.output_relative_error),
        before_bytes=(keys.numel() + values.numel()) * BF16_BYTES,
        after=restored.stored,
    )


def _numpy(per_head: torch.Tensor) -> np.ndarray:
    return per_head.cpu().numpy()


class _Clock:
    """Seconds from lap to lap."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, name: str) -> None:
        now = perf_counter()
        self.laps[name], self._last = now - self._last, now
