"""What to quantize with: one frozen value that travels from the form to the codes.

Knows the choices and the bits they cost. Knows nothing of tensors.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

Centering = Literal["off", "bias", "mean"]
Codebook = Literal["lloyd-max", "trellis", "query-trellis", "fast"]
QjlBudget = Literal["on-top", "inside"]
QjlOn = Literal["both", "keys"]

BITS = (2, 3, 4)
SCALE_BITS = (16, 8)


@dataclass(frozen=True)
class QuantConfig:
    """One way to store keys and values.

    bits: bits per value, 2 to 4, the QJL bit included if `qjl_budget` is "inside".
    rotation: random signs and a Walsh-Hadamard transform before the codebook.
    qjl: a 1-bit sketch of the residual (TurboQuant, algorithm 2).
    qjl_budget: "on-top" adds the sketch's bit to `bits`; "inside" takes it from them.
    qjl_on: sketch keys and values, or keys alone.
    centering: what is subtracted before rotation: nothing, the projection bias, or a frozen mean.
    codebook: how the rotated coordinates become codes (codebooks.py).
    scale_bits: of each vector's scale, and of its residual norm: fp16, or one byte (scales.py).
    seed: of the rotation's signs and of the sketch.

    Raises ValueError for any other value.
    """

    bits: int = 3
    rotation: bool = True
    qjl: bool = False
    qjl_budget: QjlBudget = "on-top"
    qjl_on: QjlOn = "both"
    centering: Centering = "mean"
    codebook: Codebook = "lloyd-max"
    scale_bits: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("bits", self.bits, BITS)
        _one_of("qjl_budget", self.qjl_budget, get_args(QjlBudget))
        _one_of("qjl_on", self.qjl_on, get_args(QjlOn))
        _one_of("centering", self.centering, get_args(Centering))
        _one_of("codebook", self.codebook, get_args(Codebook))
        _one_of("scale_bits", self.scale_bits, SCALE_BITS)
        for name in ("rotation", "qjl"):
            _one_of(name, getattr(self, name), (True, False))
        if type(self.seed) is not int or not 0 <= self.seed < 2**31:
            raise ValueError(f"seed is {self.seed!r}; choose a whole number from 0 to 2147483647")

    @property
    def codebook_bits(self) -> int:
        """Bits left for the codebook: one fewer when the sketch lives inside the budget."""
        return self.bits - (self.qjl and self.qjl_budget == "inside")

    @property
    def for_values(self) -> "QuantConfig":
        """The choices as they apply to values.

        No sketch when it is for keys alone. No query meets a value, so what heeds queries is the
        plain trellis for values.
        """
        codebook = {"query-trellis": "trellis"}.get(self.codebook, self.codebook)
        return replace(self, qjl=self.qjl and self.qjl_on == "both", codebook=codebook)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _one_of(name: str, value: object, allowed: tuple) -> None:
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, allowed))}")
