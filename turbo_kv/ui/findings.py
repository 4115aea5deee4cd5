"""The sentences that say what each view shows, built from the numbers it shows.

Every one has a form for better, for worse and for no difference. Knows reports, not components.
"""

import numpy as np

from turbo_kv.measure.report import Report
from turbo_kv.ui import numbers, wording
from turbo_kv.ui.engine import Map

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
    broken = kl(report) >= BROKEN
    layer, head = worst(report, "logit_correlation", np.argmin)
    title = (
        f"{report.config.bits}-bit codes break this model's attention."
        if broken
        else f"{report.ratio:.2f}× smaller, and attention hardly moves."
    )
    return title, (
        f"Attention KL {numbers.nats(kl(report))} nats; the worst logit correlation is "
        f"{numbers.correlation(report.grid('logit_correlation').min())} in layer {layer}, "
        f"head {head}. Key cosine {numbers.cosine(report.grid('key_cosine').mean())}."
    )


def _title(before: Report, after: Report) -> str:
    one_switch = wording.changed(before.config, after.config) == ["centering"]
    bits = after.config.bits
    if one_switch and before.config.centering == "off" and _repaired(before, after):
        return f"Plain {bits}-bit codes break this model. Centring repairs it."
    if one_switch and after.config.centering == "off" and _repaired(after, before):
        return f"Without centring, the same {bits}-bit codes break this model."
    change = wording.change(before.config, after.config)
    factor = kl(before) / kl(after)
    if factor >= ALIKE:
        return f"{change}: attention comes {numbers.times(factor)} times closer to exact."
    if factor <= 1 / ALIKE:
        return f"{change}: attention moves {numbers.times(1 / factor)} times further from exact."
    return f"{change}: attention stays as far from exact as it was."


def _repaired(broken: Report, good: Report) -> bool:
    return kl(broken) >= BROKEN and kl(good) <= kl(broken) / 5


def _comparison(before: Report, after: Report) -> str:
    cosines = [float(report.grid("key_cosine").mean()) for report in (before, after)]
    correlations = [float(report.grid("logit_correlation").min()) for report in (before, after)]
    sentence = (
        f"Attention KL {_arrow(numbers.nats, kl(before), kl(after))} nats and the worst head's "
        f"logit correlation {_arrow(numbers.correlation, *correlations)}, at "
        f"{_arrow('{:.2f}'.format, before.bits_per_value, after.bits_per_value)} bits per value."
    )
    factor = max(kl(before), 1e-9) / max(kl(after), 1e-9)
    if min(cosines) >= LOOKS_FINE and max(factor, 1 / factor) >= 5:
        broken = cosines[0 if factor > 1 else 1]
        sentence += f" Cosine does not show the damage: keys score {numbers.cosine(broken)} in it."
    return sentence


def _arrow(form, before: float, after: float) -> str:
    return f"{form(before)} → {form(after)}"


def memory(report: Report) -> str:
    """What the cache gains, and what the process does not."""
    return (
        f"Keys and values shrink {report.ratio:.2f}×, from {numbers.mib(report.before_bytes)} to "
        f"{numbers.mib(report.after.total)} MiB. The process shrinks by that difference only: "
        f"the weights keep their {numbers.mib(report.model.weights_bytes, 0)} MiB."
    )


def cosines(report: Report, field: str) -> str:
    """Range, worst cell, and how the first and last layer compare with the rest."""
    grid = report.grid(field)
    layer, head = worst(report, field, np.argmin)
    side = "Keys" if field == "key_cosine" else "Values"
    sentence = (
        f"{side}: worst in layer {layer}, KV head {head} at {numbers.cosine(grid.min())}; "
        f"median {numbers.cosine(float(np.median(grid)))}."
    )
    hurt, _ = worst(report, "attention_kl")
    divergence = report.grid("attention_kl").mean(axis=1)
    if field == "key_cosine" and divergence[hurt] >= BROKEN and grid[hurt].mean() >= LOOKS_FINE:
        sentence += (
            f" Layer {hurt}, whose attention is damaged most, scores "
            f"{numbers.cosine(grid[hurt].mean())} here: this picture cannot show it."
        )
    return sentence


def attention(report: Report) -> str:
    """Which layers carry the damage."""
    by_layer = report.grid("attention_kl").mean(axis=1)
    layer, head = worst(report, "attention_kl")
    top = float(report.grid("attention_kl").max())
    share = by_layer / by_layer.sum()
    heavy = [index for index in np.argsort(share)[::-1][:2] if share[index] >= 2 / len(share)]
    where = (
        f" {_layers(heavy)} {'carries' if len(heavy) == 1 else 'carry'} "
        f"{share[heavy].sum():.0%} of all the divergence."
        if heavy
        else " It is spread evenly over the layers."
    )
    return (
        f"Attention KL is {numbers.nats(kl(report))} nats on average and {numbers.nats(top)} in "
        f"the worst head (layer {layer}, head {head}).{where}"
    )


def _layers(indices: list[int]) -> str:
    names = sorted(int(index) for index in indices)
    return f"Layer {names[0]}" if len(names) == 1 else f"Layers {names[0]} and {names[1]}"


def cell(report: Report, layer: int, head: int) -> str:
    """The numbers of one query head and of the KV head it reads."""
    kv_head = head // (report.model.query_heads // report.model.kv_heads)
    row = report.layers[layer]
    return (
        f"Layer {layer}, query head {head} (KV head {kv_head}): attention KL "
        f"{numbers.nats(row.attention_kl[head])} nats, logit correlation "
        f"{numbers.correlation(row.logit_correlation[head])}, strongest key unchanged in "
        f"{numbers.percent(row.top1[head])} of queries, key cosine "
        f"{numbers.cosine(row.key_cosine[kv_head])}."
    )


def maps(measured: Map) -> str:
    """How much attention one head moves, and how much of it the window shows."""
    moved = measured.total_variation
    verb = "barely moves" if moved < 0.02 else "moves"
    return (
        f"On packed keys this head {verb} {numbers.percent(moved)} of its attention to other "
        f"tokens; its strongest token stays the same in {numbers.percent(measured.top1)} of the "
        f"rows. The window shows {numbers.percent(measured.mass)} of all its attention."
    )


def layers(report: Report) -> str:
    """Which layer's output errs most."""
    errors = [float(layer.output_relative_error.mean()) for layer in report.layers]
    worst_layer = int(np.argmax(errors))
    return (
        f"Attention's output errs most in layer {worst_layer}, by {errors[worst_layer]:.1%} of its "
        f"length; the median layer errs by {float(np.median(errors)):.1%}."
    )
