"""The named endpoints: what the page does, as three typed functions for gradio_client.

Their docstrings are published with the page. Every value is checked as the form's are; what cannot
be used comes back as an error that says so. An endpoint takes the fields of QuantConfig as
parameters of its own, read from there with their documentation.

Those that work a model are generators, which tell how far they are: Gradio closes a generator at
its next step once the client is gone, and lets a function go on.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, get_type_hints

import gradio as gr

from turbo_kv.measure.planner import plan_sizes
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import engine, limits
from turbo_kv.ui.actions import FAILURES, shown
from turbo_kv.ui.engine import Captures
from turbo_kv.ui.following import following

CHOICES = tuple(QuantConfig.__dataclass_fields__)


class Api:
    """The endpoints of one server; `captures` are those the page's runs keep."""

    def __init__(self, host: limits.Limits, captures: Captures) -> None:
        self._host = host
        self._captures = captures

    def connect(self) -> None:
        """Publish the endpoints within the Blocks at hand; models work one at a time."""
        model = {"concurrency_id": "model", "concurrency_limit": 1}
        for function, queue in (
            (self.analyze, model),
            (self.generate, model),
            (self.plan, {"queue": False}),
        ):
            called = endpoint(function)
            gr.api(called, api_name=called.__name__, api_description=called.__doc__, **queue)

    def analyze(
        self,
        choices: dict[str, Any],
        *,
        model: str = "tiny",
        text: str = "",
        source: str = limits.SOURCES[0],
        context: int = 2048,
        device: str = "auto",
    ) -> Iterator[dict]:
        """Measure what storing a model's keys and values in few bits does to its attention.

        Args:
            model: "tiny", or a Qwen2.5 by its name.
            text: what to read; empty for the built-in text that `source` names.
            source: "Python language reference", "Standard library source" or "Prose".
            context: tokens to read, at most.
            device: "auto", "cpu", "cuda" or "mps".

        Returns:
            The report, as `python -m turbo_kv analyze --json -` prints it; its `path` is called
            `ran` here. Before it come steps, {"done": share, "doing": what}.
        """
        form = {"model": model, "text": text, "context": context, "device": device}
        form["source"] = limits.OWN_TEXT if text else source
        request = limits.check(form | choices, self._host)
        reading = following(lambda progress: self._captures.prepare(request, progress))
        prepared = yield from shown(reading, _step)
        with closing(self._captures.measure(prepared, request.config)) as reports:
            for report in reports:
                done, layers = len(report.layers), report.model.layers
                yield _step(f"Layer {done} of {layers}", done / layers)
        answer = report.to_dict() | {"stamp": engine.stamp()}
        answer["ran"] = answer.pop("path")  # clients take a "path" for a file to fetch
        yield answer

    def generate(
        self,
        choices: dict[str, Any],
        *,
        prompt: str,
        model: str = "tiny",
        new_tokens: int = 32,
        temperature: float = 0.0,
        sampling_seed: int = 0,
        exact_window: int = 0,
        device: str = "auto",
    ) -> Iterator[dict]:
        """Continue a prompt twice, in full precision and from the packed cache.

        Args:
            prompt: the text to continue.
            model: "tiny", or a Qwen2.5 by its name.
            new_tokens: in each stream, at most.
            temperature: 0 takes the likeliest token; above it, both streams share one chance.
            sampling_seed: of that chance.
            exact_window: how many of the newest tokens the packed cache leaves in 16 bits.
            device: "auto", "cpu", "cuda" or "mps".

        Returns:
            Both streams token by token, as `python -m turbo_kv generate --json -` prints them.
            Before them come steps, {"done": share, "doing": what}.
        """
        form = {"prompt": prompt, "model": model, "device": device, "new_tokens": new_tokens}
        form |= {"temperature": temperature, "sampling_seed": sampling_seed}
        form["exact_window"] = exact_window
        request = limits.generation(form | choices, self._host)
        first = following(lambda told: self._captures.first_step(request, told))
        transcript, rest = yield from shown(first, _step)
        with closing(rest):
            while not transcript.complete:
                done, asked = len(transcript.steps), request.new_tokens
                yield _step(f"Token {done} of {asked}", done / asked)
                transcript = next(rest)
        yield transcript.to_dict() | {"stamp": engine.stamp()}

    def plan(
        self,
        choices: dict[str, Any],
        *,
        context: int = 32_768,
        batch: int = 1,
        memory: float = 24.0,
    ) -> dict:
        """Tell what the cache of every Qwen2.5 size takes, and the longest context that fits.

        Args:
            context: tokens in each text.
            batch: texts at once.
            memory: of the device, GiB.

        Returns:
            Bytes before and after and longest contexts, as `python -m turbo_kv plan --json -`.
        """
        form = {"plan_context": context, "plan_batch": batch, "plan_memory": memory}
        request = limits.planning(form | choices)
        return {
            "memory_bytes": request.memory,
            "config": request.config.to_dict(),
            "models": [each.to_dict() for each in plan_sizes(request)],
        }


def _step(doing: str, done: float) -> dict:
    return {"done": done, "doing": doing}


def endpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with QuantConfig's fields as parameters, which it gets as its `choices`.

    What a caller can mend is raised as an error that Gradio passes on.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    own = [
        parameter.replace(kind=kind)
        for parameter in list(inspect.signature(function).parameters.values())[1:]
    ]
    fields = [
        inspect.Parameter(name, kind, default=field.default)
        for name, field in QuantConfig.__dataclass_fields__.items()
    ]
    hints = get_type_hints(QuantConfig)
    names = [parameter.name for parameter in own]

    def answer(values: tuple[Any, ...]) -> Any:
        given = dict(zip([*names, *CHOICES], values, strict=True))
        choices = {name: given.pop(name) for name in CHOICES}
        return function(choices, **given)

    def once(*values: Any) -> dict:
        with _told():
            return answer(values)

    def in_steps(*values: Any) -> Iterator[dict]:
        with _told():
            yield from answer(values)

    called = in_steps if inspect.isgeneratorfunction(function) else once
    called.__name__ = function.__name__
    called.__doc__ = _documented(function)
    called.__annotations__ = {
        name: hint for name, hint in get_type_hints(function).items() if name != "choices"
    } | {name: hints[name] for name in CHOICES}
    called.__annotations__["return"] = dict
    called.__signature__ = inspect.Signature([*own, *fields], return_annotation=dict)
    return called


@contextmanager
def _told() -> Iterator[None]:
    """What a caller can mend, as the error that Gradio passes on."""
    try:
        yield
    except FAILURES as error:
        raise gr.Error(str(error), print_exception=False) from error


def _documented(function: Callable[..., dict]) -> str:
    """The docstring, QuantConfig's lines about its fields among the arguments."""
    told = re.sub(r"\n(?! *\w+:|\n)\s*", " ", inspect.getdoc(QuantConfig))
    lines = re.findall(r"^(\w+: .+)$", told, re.MULTILINE)
    about = "".join(f"    {line}\n" for line in lines if line.split(":")[0] in CHOICES)
    return inspect.getdoc(function).replace("\nReturns:", f"{about}\nReturns:")
