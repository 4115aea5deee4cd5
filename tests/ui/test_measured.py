"""Laws of the panel of claims: it says what the files say, all of it, as text."""

import re
from html import unescape

from turbo_kv.bench.family import read as read_rows
from turbo_kv.bench.family_report import claims_json
from turbo_kv.bench.keep import RESULTS
from turbo_kv.ui import measured

MADE = {"date": "2026-01-02T03:04:05+00:00"}


def cells(html):
    return [
        [unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", html.partition("<tbody>")[2])
    ]


def test_the_panel_shows_what_the_rows_of_all_machines_say():
    shown = cells(measured.html(measured.read()))
    claims = claims_json(read_rows(RESULTS))["claims"]
    assert shown == [
        [claim["claim"], claim["ours"], claim["how"], f"python -m turbo_kv {claim['command']}"]
        for claim in claims
    ]


def test_the_finding_counts_what_is_measured():
    claims = [
        {"claim": "c", "ours": "o", "how": how, "command": "plan"} for how in ("measured", "")
    ]
    stored = {"claims": claims, "machines": {"a GPU": MADE, "a CPU": MADE}}
    assert (
        "1 of 2 claims are measured, on a GPU (2026-01-02), a CPU (2026-01-02)."
        in measured.html(stored)
    )


def test_what_a_machine_calls_itself_is_text():
    claim = {"claim": "<b>", "ours": "<script>", "how": "measured", "command": "plan {{7*7}} <i>"}
    html = measured.html({"claims": [claim], "machines": {"<img>": MADE}})
    assert not re.search(r"<(b|script|i|img)>", html)
