"""The reliability benchmark in small, and the judge it rests on."""

import pytest

from turbo_kv.bench import hostile, reliability
from turbo_kv.bench.crowd import slope
from turbo_kv.bench.hostile import CANARY, Answer, Case


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer((500,), ""), "status 500"),
        (Answer((200, 502), ""), "status 502"),
        (Answer((200,), "Traceback (most recent call last):"), "gave away 'Traceback"),
        (Answer((200,), f"root {CANARY}"), "leaked a file"),
    ],
)
def test_a_fault_is_found(answer, fault):
    assert any(found.startswith(fault) for found in answer.faults)


def test_a_refusal_is_no_fault():
    assert Answer((413,), "too much").faults == []
    assert Answer((200, 200), 'event: error\ndata: {"error": "Choose 2, 3, 4"}').faults == []


def test_cases_are_seeded_and_attack_every_argument_of_every_endpoint(tmp_path):
    outside = str(tmp_path / "secret.txt")
    cases = list(hostile.cases(3_000, outside))
    assert cases == list(hostile.cases(3_000, outside))
    for endpoint, own in hostile._ENDPOINTS.items():
        bodies = {case.body for case in cases if case.event == endpoint}
        assert len(bodies) > 30 * (len(own) + len(hostile._CHOICES))
    assert any(case.method == "GET" and "secret" in case.path for case in cases)
    assert any(len(case.body) >= 10_000_000 for case in cases)
    assert Case("POST", "/gradio_api/call/v2/plan", b'{"data": 5}') in cases


def test_tests_are_counted_and_failures_are_not_survived(tmp_path):
    file = tmp_path / "test_some.py"
    file.write_text(
        "import pytest\n"
        "def test_a(): pass\n"
        "def test_b(): assert False\n"
        "def test_c(): pytest.skip('no')\n"
    )
    assert reliability.count((str(file),)) == {"tried": 2, "survived": 1}


def test_a_slope_is_growth_per_session_and_none_where_no_session_came():
    assert slope([10, 20, 40], [5_000, 6_000, 8_000]) == pytest.approx(100)
    assert slope([3, 3, 3], [1, 2, 3]) == 0


def test_a_small_run_holds():
    result = reliability.run(
        visitors=3,
        hostile_requests=25,
        soak_seconds=1,
        fault_tests=("tests/models/test_catalog.py",),
    )
    assert result["faults"]["tried"] == result["faults"]["survived"] > 0
    assert result["crowd"] | {"full": 0} == {"visitors": 3, "answered": 3, "wrong": 0, "full": 0}
    assert result["hostile"]["survived"] == 25
    assert result["hostile"]["leaked"] == 0
    assert result["alive_at_the_end"]
    assert len(result["soak"]["memory_bytes"]) == 10
