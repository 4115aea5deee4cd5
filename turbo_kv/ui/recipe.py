"""How to repeat a run elsewhere: as a command, as Python, as a link that restores the form.

A visitor's own text is never repeated: command and code read it from a file.
"""

from urllib.parse import urlencode

from turbo_kv.measure.report import Request
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui.language import say, spoken
from turbo_kv.ui.session import Session

FILE = "text.txt"
ALWAYS = ("bits", "centering")
"""Choices that a reader wants to see even where they are the default."""


def command(request: Request) -> str:
    """The command line that measures the same; the report goes to report.json."""
    words = ["python -m turbo_kv analyze", f"--model {request.model}"]
    words.append(f"--context {request.context}")
    if request.text is not None:
        words.append(f"--text {FILE}")
    elif request.source != Request.source:
        words.append(f'--source "{request.source}"')
    if request.device != Request.device:
        words.append(f"--device {request.device}")
    for name, value in _choices(request.config).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{flag}")
        else:
            words.append(f"--{flag} {value}")
    return " ".join([*words, "--json report.json"])


def python(request: Request) -> str:
    """A Python script that measures the same."""
    given = [f"context={request.context}"]
    imports = "from turbo_kv import QuantConfig, analyze\n\n"
    if request.text is not None:
        imports = "from pathlib import Path\n\n" + imports
        given.append(f'text=Path("{FILE}").read_text(encoding="utf-8")')
    elif request.source != Request.source:
        given.append(f'source="{request.source}"')
    if request.device != Request.device:
        given.append(f'device="{request.device}"')
    choices = ", ".join(f"{name}={value!r}" for name, value in _choices(request.config).items())
    lines = [f'    "{request.model}",', *(f"    {each}," for each in given)]
    return (
        f"{imports}report = analyze(\n"
        + "\n".join(lines)
        + f"\n    config=QuantConfig({choices}),\n)\n"
        + "print(report.ratio, report.grid('attention_kl').mean())\n"
    ).replace("'", '"')


def link(session: Session) -> str:
    """The query string that restores the form and the selected head; never the text."""
    request, (layer, head) = session.request, session.selected
    given = {"model": request.model, "context": request.context}
    if request.text is None and request.source != Request.source:
        given["source"] = request.source
    for name, value in _choices(request.config).items():
        given[name] = {True: "on", False: "off"}[value] if isinstance(value, bool) else value
    return "?" + urlencode({"lang": spoken()} | given | {"layer": layer, "head": head})


def note(session: Session) -> str:
    """What the recipe of a visitor's own text needs."""
    return say("export.note", file=FILE, sha256=session.shown.text.sha256)


def _choices(config: QuantConfig) -> dict[str, str | int | bool]:
    """What a run depends on beside the defaults."""
    default = QuantConfig().to_dict()
    return {
        name: value
        for name, value in config.to_dict().items()
        if name in ALWAYS or value != default[name]
    }
