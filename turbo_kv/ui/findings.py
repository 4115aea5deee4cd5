"""The sentences that say what each view shows, built from the numbers it shows.

Every one has a form for better, for worse and for no difference. Knows reports, not components.
"""

import numpy as np

from turbo_kv.measure.report import Report
from turbo_kv.ui import numbers, wording
from turbo_kv.ui.engine import Map
from turbo_kv.ui.language import say

BROKEN = 0.1
"""Mean attention KL, nats, from which a head reads the text differently enough to say so."""

UNRELIABLE = 0.9
"""A logit correlation below which a head ranks its keys visibly differently."""

ALIKE = 1.1
"""Two divergences within this factor count as no difference."""

LOOKS_FINE = 0.97
"""A cosine that a reader takes for nearly perfect."""


def kl(report: Report) -> float:
    return float(report.grid("attention_kl").mean())


def worst(report: Report, field: str, pick=np.argmax) -> tuple[int, int]:
    """(layer, head) of the largest value of a field, or of the smallest with `np.argmin`."""
    grid = report.grid(field)
    layer, head = np.unravel_index(pick(grid), grid.shape)
    return int(layer), int(head)


def verdict(before: Report | None, after: Report) -> tuple[str, str]:
    """A title and a sentence: what the last change did, or what this run costs when alone."""
    if before is None:
        return _alone(after)
    return _title(before, after), _comparison(before, after)


def _alone(report: Report) -> tuple[str, str]:
    layer, head = worst(report, "logit_correlation", np.argmin)
    title = (
        say("verdict.alone.broken", bits=report.config.bits)
        if kl(report) >= BROKEN
        else say("verdict.alone.good", ratio=f"{report.ratio:.2f}")
    )
    return title, say(
        "verdict.alone.figures",
        kl=numbers.nats(kl(report)),
        correlation=numbers.correlation(report.grid("logit_correlation").min()),
        layer=layer,
        head=head,
        cosine=numbers.cosine(report.grid("key_cosine").mean()),
    )


def _title(before: Report, after: Report) -> str:
    one_switch = wording.changed(before.config, after.config) == ["centering"]
    bits = after.config.bits
    if one_switch and before.config.centering == "off" and _repaired(before, after):
        return say("verdict.repaired", bits=bits)
    if one_switch and after.config.centering == "off" and _repaired(after, before):
        return say("verdict.broken", bits=bits)
    change = wording.change(before.config, after.config)
    factor = kl(before) / kl(after)
    if factor >= ALIKE:
        return say("verdict.closer", change=change, factor=numbers.times(factor))
    if factor <= 1 / ALIKE:
        return say("verdict.further", change=change, factor=numbers.times(1 / factor))
    return say("verdict.same", change=change)


def _repaired(broken: Report, good: Report) -> bool:
    return kl(broken) >= BROKEN and kl(good) <= kl(broken) / 5


def _comparison(before: Report, after: Report) -> str:
    cosines = [float(report.grid("key_cosine").mean()) for report in (before, after)]
    correlations = [float(report.grid("logit_correlation").min()) for report in (before, after)]
    sentence = say(
        "verdict.figures",
        kl=_arrow(numbers.nats, kl(before), kl(after)),
        correlation=_arrow(numbers.correlation, *correlations),
        bits=_arrow("{:.2f}".format, before.bits_per_value, after.bits_per_value),
    )
    factor = max(kl(before), 1e-9) / max(kl(after), 1e-9)
    if min(cosines) >= LOOKS_FINE and max(factor, 1 / factor) >= 5:
        broken = cosines[0 if factor > 1 else 1]
        sentence += say("verdict.hidden", cosine=numbers.cosine(broken))
    return sentence


def _arrow(form, before: float, after: float) -> str:
    return f"{form(before)} → {form(after)}"


def memory(report: Report) -> str:
    """What the cache gains, and what the process does not."""
    return say(
        "memory.finding",
        ratio=f"{report.ratio:.2f}",
        before=numbers.mib(report.before_bytes),
        after=numbers.mib(report.after.total),
        weights=numbers.mib(report.model.weights_bytes, 0),
    )


def cosines(report: Report, field: str) -> str:
    """Range, worst cell, and how the first and last layer compare with the rest."""
    grid = report.grid(field)
    layer, head = worst(report, field, np.argmin)
    sentence = say(
        f"cosine.{field}",
        layer=layer,
        head=head,
        worst=numbers.cosine(grid.min()),
        median=numbers.cosine(float(np.median(grid))),
    )
    hurt, _ = worst(report, "attention_kl")
    divergence = report.grid("attention_kl").mean(axis=1)
    if field == "key_cosine" and divergence[hurt] >= BROKEN and grid[hurt].mean() >= LOOKS_FINE:
        sentence += say("cosine.hidden", layer=hurt, cosine=numbers.cosine(grid[hurt].mean()))
    return sentence


def attention(report: Report) -> str:
    """Which layers carry the damage."""
    by_layer = report.grid("attention_kl").mean(axis=1)
    layer, head = worst(report, "attention_kl")
    top = float(report.grid("attention_kl").max())
    share = by_layer / by_layer.sum()
    heavy = sorted(
        int(index) for index in np.argsort(share)[::-1][:2] if share[index] >= 2 / len(share)
    )
    parts = {"layers": heavy, "share": f"{share[heavy].sum():.0%}"}
    where = ("attention.even", "attention.one", "attention.two")[len(heavy)]
    return say(
        "attention.finding",
        mean=numbers.nats(kl(report)),
        top=numbers.nats(top),
        layer=layer,
        head=head,
        where=say(where, **parts),
    )


def cell(report: Report, layer: int, head: int) -> str:
    """The numbers of one query head and of the KV head it reads."""
    kv_head = head // (report.model.query_heads // report.model.kv_heads)
    row = report.layers[layer]
    return say(
        "attention.cell",
        layer=layer,
        head=head,
        kv_head=kv_head,
        kl=numbers.nats(row.attention_kl[head]),
        correlation=numbers.correlation(row.logit_correlation[head]),
        kept=numbers.percent(row.top1[head]),
        cosine=numbers.cosine(row.key_cosine[kv_head]),
    )


def maps(measured: Map) -> str:
    """How much attention one head moves, and how much of it the window shows."""
    moved = measured.total_variation
    return say(
        "maps.barely" if moved < 0.02 else "maps.moves",
        moved=numbers.percent(moved),
        kept=numbers.percent(measured.top1),
        mass=numbers.percent(measured.mass),
    )


def layers(report: Report) -> str:
    """Which layer's output errs most."""
    errors = [float(layer.output_relative_error.mean()) for layer in report.layers]
    worst_layer = int(np.argmax(errors))
    return say(
        "layers.finding",
        layer=worst_layer,
        error=f"{errors[worst_layer]:.1%}",
        median=f"{float(np.median(errors)):.1%}",
    )
