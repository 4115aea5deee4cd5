"""How the page writes its numbers. Knows no report and no page."""

import math

from turbo_kv.ui.language import say

MIB = 2**20
GIB = 2**30


def mib(count: int, digits: int = 2) -> str:
    """Bytes as MiB, the unit left out where a sum names it once: 4.90."""
    return f"{count / MIB:,.{digits}f}"


def gib(count: int) -> str:
    """Bytes as GiB with two decimals: 1.75; what is not nothing never reads as nothing."""
    return f"{count / GIB:,.2f}" if count == 0 or count >= GIB / 200 else _under("0.01")


def cosine(value: float) -> str:
    """Cut, never rounded up: what is below one never reads as one. Three digits, near one four."""
    digits = 3 if value < 0.999 else 4
    cut = math.floor(value * 10**digits) / 10**digits
    return f"{cut:.{digits}f}"


def correlation(value: float) -> str:
    """A correlation, cut like a cosine when positive."""
    return cosine(value) if value >= 0 else f"−{abs(value):.3f}"


def nats(value: float) -> str:
    """A divergence with two significant digits, plain down to a ten-thousandth: 1.3, 0.021."""
    if value >= 9.95:
        return f"{value:.0f}"
    if value >= 0.0001:
        return f"{value:.{max(1 - math.floor(math.log10(value)), 1)}f}"
    return _under("0.0001")


def weight(share: float) -> str:
    """A share of attention with two significant digits, down to a ten-thousandth: 0.56, 0.031."""
    return f"{share:#.2g}" if share >= 0.0001 else _under("0.0001")


def signed(value: float) -> str:
    """A change with its sign and two significant digits: +0.021, −0.0034."""
    return f"{value:+#.2g}".replace("-", "−")


def times(factor: float) -> str:
    """How many times: one digit below ten, none above."""
    return f"{factor:.1f}" if factor < 9.95 else f"{factor:,.0f}"


def percent(share: float) -> str:
    """A share, cut so that only everything reads as 100%: 88.9%."""
    return f"{math.floor(share * 1000) / 10:.1f}%"


def rate(per_second: float | None) -> str:
    """A speed with two or more significant digits; a dash before there is one."""
    if per_second is None:
        return "–"
    return f"{per_second:.1f}" if per_second < 100 else f"{per_second:,.0f}"


def _under(value: str) -> str:
    return say("number.under", value=value)
