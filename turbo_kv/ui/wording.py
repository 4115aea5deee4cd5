"""Names of the choices as the page writes them, and the difference between two of them in words."""

from dataclasses import fields

from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui.language import knows, say


def name(field: str) -> str:
    """A field of QuantConfig."""
    return say(f"choice.{field}")


def value(choice: str | int | bool) -> str:
    """One setting as text: in words where there are any, else a number or a codebook's own name."""
    if isinstance(choice, bool):
        choice = "on" if choice else "off"
    key = f"value.{choice}"
    return say(key) if knows(key) else str(choice)


def changed(before: QuantConfig, after: QuantConfig) -> list[str]:
    """Names of the fields in which two configurations differ."""
    return [
        f.name for f in fields(QuantConfig) if getattr(before, f.name) != getattr(after, f.name)
    ]


def listed(texts: list[str]) -> str:
    """Texts one after another."""
    return say("list.comma").join(texts)


def setting(config: QuantConfig, names: list[str]) -> str:
    """The named fields of one configuration: "Centring off, Rotation on"."""
    return listed([f"{name(field)} {value(getattr(config, field))}" for field in names])


def change(before: QuantConfig, after: QuantConfig) -> str:
    """From one configuration to another: "Centring off → mean"."""
    return listed(
        [
            f"{name(field)} {value(getattr(before, field))} → {value(getattr(after, field))}"
            for field in changed(before, after)
        ]
    )
