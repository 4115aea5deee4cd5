"""Names of the choices as the page writes them, and the difference between two of them in words."""

from dataclasses import fields

from turbo_kv.quant.config import QuantConfig

CHOICES = {
    "bits": "Bits",
    "rotation": "Rotation",
    "qjl": "QJL",
    "qjl_budget": "QJL budget",
    "qjl_on": "QJL for",
    "centering": "Centring",
    "codebook": "Codebook",
    "scale_bits": "Scale bits",
    "seed": "Seed",
}


def value(choice: str | int | bool) -> str:
    """One setting as text."""
    if isinstance(choice, bool):
        return "on" if choice else "off"
    return {"both": "keys and values", "on-top": "on top", "keys": "keys only"}.get(
        choice, str(choice)
    )


def changed(before: QuantConfig, after: QuantConfig) -> list[str]:
    """Names of the fields in which two configurations differ."""
    return [
        f.name for f in fields(QuantConfig) if getattr(before, f.name) != getattr(after, f.name)
    ]


def setting(config: QuantConfig, names: list[str]) -> str:
    """The named fields of one configuration: "Centring off, Rotation on"."""
    return ", ".join(f"{CHOICES[name]} {value(getattr(config, name))}" for name in names)


def change(before: QuantConfig, after: QuantConfig) -> str:
    """From one configuration to another: "Centring off → mean"."""
    return ", ".join(
        f"{CHOICES[name]} {value(getattr(before, name))} → {value(getattr(after, name))}"
        for name in changed(before, after)
    )
