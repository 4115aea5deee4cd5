"""Laws of the claims: what is said to be measured has a row, and every claim is always answered."""

import pytest
from family_rows import row
from typer.testing import CliRunner

from turbo_kv.__main__ import app
from turbo_kv.bench.claims import ABSENT, COMPUTED, MEASURED, claims

NAMES = ("4.9×", "0.999", "448 MB", "+0.58", "CPU", "MPS", "partially")


def told(rows):
    found = claims(rows)
    return {name: next(claim for claim in found if name in claim.claim) for name in NAMES}


def test_without_rows_nothing_is_said_to_be_measured():
    found = told([])
    assert {claim.how for claim in found.values()} == {ABSENT, COMPUTED}
    assert found["448 MB"].how == COMPUTED
    assert "448 → 87.55 MiB" in found["448 MB"].ours
    assert "make it 91" in found["448 MB"].ours


def test_a_row_that_is_missing_measures_nothing():
    assert told([row("Qwen2.5-3B", missing="no network")]) == told([])


@pytest.mark.parametrize(
    ("added", "names"),
    [
        (row("tiny"), {"4.9×", "0.999", "CPU"}),
        (row("Qwen2.5-3B"), {"4.9×", "0.999", "+0.58", "CPU"}),
        (row("Qwen2.5-7B", 2048, device="mps"), {"4.9×", "0.999", "MPS", "partially"}),
        (row("Qwen2.5-7B", 8192, "random", "cuda"), {"4.9×", "448 MB"}),
    ],
    ids=lambda value: value["model"] if isinstance(value, dict) else None,
)
def test_a_row_measures_the_claims_it_is_about(added, names):
    assert {name for name, claim in told([added]).items() if claim.how == MEASURED} == names


def test_measured_bytes_take_the_place_of_computed_ones():
    found = told([row("Qwen2.5-7B", 8192, "random", "cuda")])
    assert "448 → 88.00 MiB" in found["448 MB"].ours
    assert "random weights" in found["4.9×"].ours
    assert "time are measured, on random weights" in found["partially"].ours


def test_the_bundled_model_answers_where_a_larger_one_is_missing_and_says_so():
    found = told([row("tiny")])
    assert found["+0.58"].how == ABSENT
    assert found["+0.58"].ours == "not this model; tiny, 2,048 tokens: 10.00 → 10.50 (+5.0% ± 1.0%)"


@pytest.mark.parametrize("rows", [[], [row("Qwen2.5-7B", 8192)]], ids=["none", "some"])
def test_every_command_is_one(rows):
    for claim in claims(rows):
        name, *arguments = claim.command.split()
        flags = [argument for argument in arguments if argument.startswith("--")]
        commands = [name, *arguments[: 1 if name == "bench" else 0]]
        shown = CliRunner().invoke(app, [*commands, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0
        assert [flag for flag in flags if flag not in shown.stdout] == []
