"""The ways to store a cache that are worth comparing, read from the choices that there are.

One choice is changed at a time from the default, bits and scales for every codebook; a choice added
to QuantConfig joins by itself. Knows names and choices, measures nothing.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, get_args, get_type_hints

from turbo_kv.quant import config as quant_config
from turbo_kv.quant.config import QuantConfig

DEFAULT = QuantConfig()
_ELSEWHERE = ("bits", "codebook", "scale_bits", "qjl", "qjl_budget", "qjl_on", "seed")
_WORDS = {
    "codebook": "{}",
    "scale_bits": "{}-bit scales",
    "centering": "centring: {}",
    "qjl_budget": "QJL {}",
    "qjl_on": "{} only",
}


def methods() -> dict[str, QuantConfig]:
    """Configurations by name, the default first."""
    return {name(config): config for config in [DEFAULT, *_variants()]}


def name(config: QuantConfig) -> str:
    """What a configuration is, by its bits and by what differs from the default."""
    parts = [f"{config.bits} bits"]
    for choice in fields(QuantConfig):
        value = getattr(config, choice.name)
        if choice.name.startswith("qjl"):
            continue
        if choice.name != "bits" and value != choice.default:
            parts.append(_words(choice.name, value))
    if config.qjl:
        parts.append(_words("qjl_budget", config.qjl_budget.replace("-", " ")))
        if config.qjl_on != DEFAULT.qjl_on:
            parts.append(_words("qjl_on", config.qjl_on))
    return ", ".join(parts)


def _words(choice: str, value: object) -> str:
    called = choice.replace("_", " ")
    if isinstance(value, bool):
        return called if value else f"no {called}"
    return _WORDS.get(choice, called + ": {}").format(value)


def choices(field: str) -> tuple[Any, ...]:
    """What a field of QuantConfig may be; empty where that is any number."""
    hint = get_type_hints(QuantConfig)[field]
    if hint is bool:
        return (True, False)
    return get_args(hint) or getattr(quant_config, field.upper(), ())


def _variants() -> Iterator[QuantConfig]:
    """Every other method, those left out that the configuration refuses."""
    changes: list[dict[str, Any]] = [
        {"codebook": codebook, "bits": bits}
        for codebook in choices("codebook")
        for bits in choices("bits")
    ]
    changes += [
        {"codebook": codebook, "scale_bits": bits}
        for codebook in choices("codebook")
        for bits in choices("scale_bits")
    ]
    changes += [
        {choice.name: value}
        for choice in fields(QuantConfig)
        if choice.name not in _ELSEWHERE
        for value in choices(choice.name)
    ]
    changes += [
        {"qjl": True, "qjl_budget": budget, "qjl_on": on}
        for budget in choices("qjl_budget")
        for on in choices("qjl_on")
    ]
    changes += [{"centering": "off", "rotation": False}, {"centering": "off", "bits": 4}]
    for change in changes:
        try:
            yield replace(DEFAULT, **change)
        except ValueError:
            continue
