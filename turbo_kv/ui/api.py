"""The named endpoints: what the page does, as three typed functions for gradio_client.

Their docstrings are published with the page. Every value is checked as the form's are; what cannot
be used comes back as an error that says so. An endpoint takes the fields of QuantConfig as
parameters of its own, read from there with their documentation.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any, get_type_hints

import gradio as gr

from turbo_kv.measure.planner import plan_sizes
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import engine, limits
from turbo_kv.ui.actions import FAILURES
from turbo_kv.ui.engine import Captures

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
    ) -> dict:
        """Measure what storing a model's keys and values in few bits does to its attention.

        Args:
            model: "tiny", or a Qwen2.5 by its name.
            text: what to read; empty for the built-in text that `source` names.
            source: "Python language reference", "Standard library source" or "Prose".
            context: tokens to read, at most.
            device: "auto", "cpu", "cuda" or "mps".

        Returns:
            The report, as `python -m turbo_kv analyze --json -` prints it; its `path` is called
            `ran` here.
        """
        form = {"model": model, "text": text, "context": context, "device": device}
        form["source"] = limits.OWN_TEXT if text else source
        request = limits.check(form | choices, self._host)
        prepared = self._captures.prepare(request, lambda fraction, said: None)
        *_, report = engine.measure(prepared, request.config)
        answer = report.to_dict() | {"stamp": engine.stamp()}
        answer["ran"] = answer.pop("path")  # clients take a "path" for a file to fetch
        return answer

    def generate(
        self,
        choices: dict[str, Any],
        *,
        prompt: str,
        model: str = "tiny",
        new_tokens: int = 32,
        temperature: float = 0.0,
        sampling_seed: int = 0,
        device: str = "auto",
    ) -> dict:
        """Continue a prompt twice, in full precision and from the packed cache.

        Args:
            prompt: the text to continue.
            model: "tiny", or a Qwen2.5 by its name.
            new_tokens: in each stream, at most.
            temperature: 0 takes the likeliest token; above it, both streams share one chance.
            sampling_seed: of that chance.
            device: "auto", "cpu", "cuda" or "mps".

        Returns:
            Both streams token by token, as `python -m turbo_kv generate --json -` prints them.
        """
        form = {"prompt": prompt, "model": model, "device": device, "new_tokens": new_tokens}
        form |= {"temperature": temperature, "sampling_seed": sampling_seed}
        request = limits.generation(form | choices, self._host)
        transcript, rest = engine.first_step(request, lambda fraction, said: None)
        while not transcript.complete:
            transcript = next(rest)
        return transcript.to_dict() | {"stamp": engine.stamp()}

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


def endpoint(function: Callable[..., dict]) -> Callable[..., dict]:
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

    def called(*values: Any) -> dict:
        given = dict(zip([*names, *CHOICES], values, strict=True))
        choices = {name: given.pop(name) for name in CHOICES}
        try:
            return function(choices, **given)
        except FAILURES as error:
            raise gr.Error(str(error), print_exception=False) from error

    called.__name__ = function.__name__
    called.__doc__ = _documented(function)
    called.__annotations__ = {
        name: hint for name, hint in get_type_hints(function).items() if name != "choices"
    } | {name: hints[name] for name in CHOICES}
    called.__signature__ = inspect.Signature([*own, *fields], return_annotation=dict)
    return called


def _documented(function: Callable[..., dict]) -> str:
    """The docstring, QuantConfig's lines about its fields among the arguments."""
    told = re.sub(r"\n(?! *\w+:|\n)\s*", " ", inspect.getdoc(QuantConfig))
    lines = re.findall(r"^(\w+: .+)$", told, re.MULTILINE)
    about = "".join(f"    {line}\n" for line in lines if line.split(":")[0] in CHOICES)
    return inspect.getdoc(function).replace("\nReturns:", f"{about}\nReturns:")
