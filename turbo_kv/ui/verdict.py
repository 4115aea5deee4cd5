"""The first thing to read: two measured settings side by side, what changed and what cosine hid.

Bars are drawn from zero and share one scale per metric. Only measured reports enter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from turbo_kv.measure.report import Report
from turbo_kv.ui import findings, numbers, wording
from turbo_kv.ui.language import say


@dataclass(frozen=True)
class Row:
    """One line of the comparison.

    whole: the value at which a bar ends.
    reading: what the change from the first value to the second amounts to.
    alarming: whether a value gets a warning sign.
    """

    name: str
    hint: str
    values: list[float]
    text: Callable[[float], str]
    whole: float
    reading: Callable[[float, float], str]
    alarming: Callable[[float], bool]


def html(before: Report | None, after: Report, previous: bool = False) -> str:
    """Title, sentence and table. `previous` marks a result that a failed or stopped run left."""
    title, sentence = findings.verdict(before, after)
    reports = [after] if before is None else [before, after]
    shown = f" <small>{say('verdict.shown')}</small>"
    heads = "".join(
        f'<th scope="col" class="side">{escape(name)}{mark}</th>'
        for name, mark in zip(_columns(before, after), ("", shown) if before else ("",))
    )
    reading = f'<th scope="col" class="reading">{say("verdict.change")}</th>' if before else ""
    rows = "".join(_line(row, before is not None) for row in _rows(reports))
    mark = f'<span class="previous">{say("verdict.previous")}</span> ' if previous else ""
    return (
        f'<section class="verdict"><h2>{mark}{escape(title)}</h2><p>{escape(sentence)}</p>'
        f'<table><thead><tr><th scope="col">{say("verdict.same_text")}</th>{heads}{reading}</tr>'
        f"</thead><tbody>{rows}</tbody></table></section>"
    )


def _columns(before: Report | None, after: Report) -> list[str]:
    if before is None:
        return [wording.setting(after.config, ["bits", "centering"])]
    names = wording.changed(before.config, after.config)
    return [wording.setting(report.config, names) for report in (before, after)]


def _rows(reports: list[Report]) -> list[Row]:
    kl = [report.grid("attention_kl").mean(axis=1) for report in reports]
    first, last = [float(k[0]) for k in kl], [float(k[-1]) for k in kl]
    between = [float(k[1:-1].mean()) if len(k) > 2 else float(k.mean()) for k in kl]
    correlation = [report.grid("logit_correlation") for report in reports]
    most = max(*first, *between, *last)
    end = len(kl[0]) - 1

    def divergence(name: str, hint: str, values: list[float]) -> Row:
        return Row(name, hint, values, _nats, most, _factor, lambda v: v >= findings.BROKEN)

    return [
        Row(
            say("metric.bits_per_value"),
            say("verdict.counts"),
            [report.bits_per_value for report in reports],
            "{:.2f}".format,
            16,
            lambda a, b: say("verdict.same_size") if abs(b - a) < 0.05 else f"{b - a:+.2f}",
            lambda bits: False,
        ),
        Row(
            say("metric.key_cosine"),
            say("verdict.perfect"),
            [float(report.grid("key_cosine").mean()) for report in reports],
            numbers.cosine,
            1,
            lambda a, b: say("verdict.fine") if min(a, b) >= findings.LOOKS_FINE else "",
            lambda cosine: cosine < findings.LOOKS_FINE,
        ),
        divergence(say("verdict.kl.first"), say("verdict.exact"), first),
        divergence(say("verdict.kl.between"), say("verdict.layers", end=end - 1), between),
        divergence(say("verdict.kl.last"), say("verdict.layer", layer=end), last),
        _correlation(say("verdict.correlation.first"), [float(c[0].min()) for c in correlation]),
        _correlation(
            say("verdict.correlation.last", layer=end), [float(c[-1].min()) for c in correlation]
        ),
    ]


def _correlation(name: str, values: list[float]) -> Row:
    return Row(
        name,
        say("verdict.worst_head"),
        values,
        numbers.correlation,
        1,
        _difference,
        lambda correlation: correlation < findings.UNRELIABLE,
    )


def _nats(value: float) -> str:
    return say("number.nats", value=numbers.nats(value))


def _factor(before: float, after: float) -> str:
    factor = max(before, 1e-9) / max(after, 1e-9)
    if factor >= findings.ALIKE:
        return say("verdict.less", factor=numbers.times(factor))
    if factor > 1 / findings.ALIKE:
        return say("verdict.alike")
    return say("verdict.more", factor=numbers.times(1 / factor))


def _difference(before: float, after: float) -> str:
    return say("verdict.alike") if abs(after - before) < 0.005 else f"{after - before:+.3f}"


def _line(row: Row, compared: bool) -> str:
    cells = "".join(_cell(row, value) for value in row.values)
    reading = f'<td class="reading">{row.reading(*row.values)}</td>' if compared else ""
    return f'<tr><th scope="row">{row.name} <small>{row.hint}</small></th>{cells}{reading}</tr>'


def _cell(row: Row, value: float) -> str:
    kind = "alarming" if row.alarming(value) else "calm"
    return (
        f'<td class="side {kind}"><span class="number">{row.text(value)}</span>'
        f'<span class="bar"><i style="width:{_width(value, row.whole):.2f}%"></i></span></td>'
    )


def _width(value: float, whole: float) -> float:
    return 100 * min(max(value / whole, 0), 1) if whole else 0
