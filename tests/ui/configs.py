"""Every way to store a cache, as a hypothesis strategy that grows with QuantConfig."""

from hypothesis import strategies as st

from turbo_kv.measure.methods import choices
from turbo_kv.quant.config import QuantConfig


def _values(name: str) -> st.SearchStrategy:
    return st.sampled_from(choices(name)) if choices(name) else st.integers(0, 2**31 - 1)


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
