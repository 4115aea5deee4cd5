from dataclasses import FrozenInstanceError, fields
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.quant.config import (
    BITS,
    SCALE_BITS,
    Centering,
    Codebook,
    QjlBudget,
    QjlOn,
    QuantConfig,
)

ALLOWED = {
    "bits": BITS,
    "rotation": (True, False),
    "qjl": (True, False),
    "qjl_budget": get_args(QjlBudget),
    "qjl_on": get_args(QjlOn),
    "centering": get_args(Centering),
    "codebook": get_args(Codebook),
    "scale_bits": SCALE_BITS,
}
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())
)


def allows(name, value):
    return any(type(value) is type(choice) and value == choice for choice in ALLOWED[name])


def test_every_field_is_covered_here():
    assert {field.name for field in fields(QuantConfig)} == {*ALLOWED, "seed"}


@pytest.mark.parametrize("name", ALLOWED)
@given(value=ANYTHING)
def test_a_wrong_value_is_refused_by_name_with_the_allowed_ones(name, value):
    if allows(name, value):
        assert getattr(QuantConfig(**{name: value}), name) == value
        return
    with pytest.raises(ValueError, match=name) as error:
        QuantConfig(**{name: value})
    assert repr(value) in str(error.value)
    assert all(repr(choice) in str(error.value) for choice in ALLOWED[name])


@pytest.mark.parametrize("seed", [-1, 2**31, 1.0, "0", None, True])
def test_a_wrong_seed_is_refused_with_the_allowed_range(seed):
    with pytest.raises(ValueError, match=r"seed is .*0 to 2147483647"):
        QuantConfig(seed=seed)


@pytest.mark.parametrize("bits", BITS)
def test_the_sketch_takes_a_bit_of_the_codebook_only_inside_the_budget(bits):
    assert QuantConfig(bits=bits).codebook_bits == bits
    assert QuantConfig(bits=bits, qjl_budget="inside").codebook_bits == bits
    assert QuantConfig(bits=bits, qjl=True).codebook_bits == bits
    assert QuantConfig(bits=bits, qjl=True, qjl_budget="inside").codebook_bits == bits - 1


def test_values_go_without_sketch_when_it_is_for_keys_alone():
    assert QuantConfig(qjl=True).for_values.qjl
    assert not QuantConfig(qjl=True, qjl_on="keys").for_values.qjl
    assert QuantConfig().for_values == QuantConfig()
    assert QuantConfig(codebook="fast").for_values == QuantConfig(codebook="fast")


def test_a_config_is_a_value():
    config = QuantConfig(bits=4)
    assert config == QuantConfig(**config.to_dict())
    assert hash(config) == hash(QuantConfig(bits=4))
    with pytest.raises(FrozenInstanceError):
        config.bits = 2
