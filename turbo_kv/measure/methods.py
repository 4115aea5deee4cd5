"""The ways to store a cache that are worth comparing, read from the choices that there are.

One choice is changed at a time from the default, bits for every codebook; a choice added to
QuantConfig joins by itself. Knows names and choices, measures nothing.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import get_args, get_type_hints

from turbo_kv.quant.config import BITS, Codebook, QjlBudget, QjlOn, QuantConfig

DEFAULT = QuantConfig()
_ELSEWHERE = ("bits", "codebook", "qjl", "qjl_budget", "qjl_on", "seed")
_WORDS = {
    "codebook": "{}",
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


def _variants() -> Iterator[QuantConfig]:
    """Every other method, those left out that the configuration refuses."""
    hints = get_type_hints(QuantConfig)
    changes = [
        {"codebook": codebook, "bits": bits} for codebook in get_args(Codebook) for bits in BITS
    ]
    for choice in fields(QuantConfig):
        if choice.name in _ELSEWHERE:
            continue
        values = (True, False) if hints[choice.name] is bool else get_args(hints[choice.name])
        changes += [{choice.name: value} for value in values if value != choice.default]
    changes += [
        {"qjl": True, "qjl_budget": budget, "qjl_on": on}
        for budget in get_args(QjlBudget)
        for on in get_args(QjlOn)
    ]
    changes += [{"centering": "off", "rotation": False}, {"centering": "off", "bits": 4}]
    for change in changes:
        try:
            yield replace(DEFAULT, **change)
        except ValueError:
            continue
