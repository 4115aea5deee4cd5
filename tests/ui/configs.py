"""Every way to store a cache, as a hypothesis strategy that grows with QuantConfig."""

from typing import get_args, get_type_hints

from hypothesis import strategies as st

from turbo_kv.quant.config import BITS, QuantConfig

_HINTS = get_type_hints(QuantConfig)


def _values(name: str) -> st.SearchStrategy:
    if name == "bits":
        return st.sampled_from(BITS)
    if name == "seed":
        return st.integers(0, 2**31 - 1)
    return st.booleans() if _HINTS[name] is bool else st.sampled_from(get_args(_HINTS[name]))


def _valid(given: dict) -> bool:
    try:
        QuantConfig(**given)
    except ValueError:
        return False
    return True


configs = (
    st.fixed_dictionaries({name: _values(name) for name in QuantConfig.__dataclass_fields__})
    .filter(_valid)
    .map(lambda given: QuantConfig(**given))
)
