"""Laws of the frontier: what is compared with what, and what is not measured twice."""

import json

import pytest
import torch

from turbo_kv.bench import fidelity, frontier
from turbo_kv.bench.contenders import GROUPS, SEEDED, Group
from turbo_kv.bench.fidelity import kl_ratio, run
from turbo_kv.bench.frontier_best import beaten, best, newest, scales
from turbo_kv.bench.live import Method, ours
from turbo_kv.bench.lock_step import between, lock_step
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.measure.next_token import compare
from turbo_kv.quant.config import QuantConfig

CONTEXTS = (320, 384)


def unavailable(_model):
    raise ImportError("You need\n  a package")


SMALL = (
    Group(
        "3 bits",
        (
            ours("Lloyd-Max"),
            ours("Lloyd-Max, 8-bit scales", scale_bits=8),
            Method("elsewhere", False, unavailable),
        ),
        64,
    ),
    Group("2 bits", (ours("Lloyd-Max", bits=2),), 64),
)


@pytest.fixture(scope="module")
def results():
    return list(run("Prose", contexts=CONTEXTS, groups=SMALL))


def test_a_result_comes_after_every_group_and_is_json(results):
    assert [len(result["rows"]) for result in results] == [3, 4]
    json.dumps(results[-1], allow_nan=False)
    assert results[-1]["tokens"] == CONTEXTS[-1]


def test_a_method_is_compared_with_the_first_of_its_group(results):
    first, other, missing, two = results[-1]["rows"]
    assert [point["context"] for point in first["points"]] == list(CONTEXTS)
    for point in (*first["points"], *two["points"]):
        assert (point["ratio"], point["ratio_stderr"]) == (1, pytest.approx(0, abs=1e-12))
        assert point["quality"]["predictions"] == point["context"] // 2
    for mine, theirs in zip(other["points"], first["points"]):
        assert mine["ratio"] == pytest.approx(
            mine["quality"]["kl"]["mean"] / theirs["quality"]["kl"]["mean"]
        )
        assert mine["ratio_stderr"] > 0
        assert mine["bits_per_value"] == pytest.approx(theirs["bits_per_value"] - 8 / 64)
    assert missing["missing"] == "You need a package"
    assert not missing["points"]


def test_a_group_that_is_known_is_not_measured_again(results):
    known = json.loads(json.dumps(results[0]["rows"]))
    (again,) = run("Prose", contexts=CONTEXTS, groups=SMALL, known=known)
    assert again["rows"][:3] == known
    assert not list(run("Prose", contexts=CONTEXTS, groups=SMALL, known=again["rows"]))


def test_only_rows_of_this_commit_are_known(results, tmp_path, monkeypatch):
    path = tmp_path / "fidelity-prose.json"
    assert fidelity._known(path) == []
    path.write_text(json.dumps(results[-1]))
    assert len(fidelity._known(path, CONTEXTS)) == 4
    assert fidelity._known(path) == []
    monkeypatch.setattr(fidelity, "stamp", lambda: {"commit": "another"})
    assert fidelity._known(path) == []


def test_lock_step_predicts_what_a_cache_predicts_alone(random_qwen2):
    tokens = torch.randint(128, (1, 352), generator=torch.Generator().manual_seed(0))
    configs = {bits: QuantConfig(bits=bits) for bits in (2, 4)}
    caches = {
        bits: TurboKVCache(random_qwen2.config, config, read_back=True)
        for bits, config in configs.items()
    }
    made, sizes = lock_step(random_qwen2, tokens, caches, values=1, chunk=32)
    for bits, config in configs.items():
        cache = TurboKVCache(random_qwen2.config, config, read_back=True)
        alone = compare(random_qwen2, tokens, cache, 32).predictions
        assert torch.equal(made[bits].kl, alone.kl)
        assert sizes[bits][352] == 8 * cache.nbytes / 352
    part = between(made[2], 10, 13)
    assert torch.equal(part.kl, made[2].kl[10:13])
    ratio, stderr = kl_ratio(made[4], made[2])
    assert 0 < ratio - 2 * stderr < ratio + 2 * stderr < 1


def test_every_group_has_a_name_of_its_own_and_methods_too():
    groups = (*GROUPS, *SEEDED)
    assert len({group.name for group in groups}) == len(groups)
    for group in groups:
        assert len({method.name for method in group.methods}) == len(group.methods)


def test_the_table_and_the_picture_show_every_method(results, tmp_path):
    for short in ("reference", "prose"):
        (tmp_path / f"fidelity-{short}.json").write_text(json.dumps(results[-1]))
    written = frontier.table(tmp_path)
    assert written.count("\n| ") == 5
    twin = {**results[0], "model": {**results[0]["model"], "name": "other"}}
    (tmp_path / fidelity.TWIN).write_text(json.dumps(twin))
    both = frontier.table(tmp_path)
    assert both.count("\n| ") == 5
    assert "KL, the twin" in both
    (two,) = (line for line in both.splitlines() if line.startswith("| Lloyd-Max, 2 bits |"))
    assert two.endswith("|  |  |  |")
    assert "| Lloyd-Max, 3 bits |" in written
    assert written.count("\n- ") + written.startswith("- ") == 2
    assert "| Lloyd-Max, 8-bit scales, 3 bits |" in written
    picture = frontier.draw(tmp_path, tmp_path / "fidelity.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    panel = frontier._panel(results[-1], "Prose")
    assert panel.title.startswith("Prose, ")
    assert {series.name: len(series.bits) for series in panel.series} == {
        "Lloyd-Max": 2,
        "Lloyd-Max, 8-bit scales": 1,
    }


def test_the_best_of_a_width_is_held_against_the_best_other_of_about_its_bytes():
    def row(method, bits, kl, *, ours=True, group="3 bits"):
        quality = {"kl": {"mean": kl, "stderr": kl / 10}}
        point = {"bits_per_value": bits, "quality": quality, "ratio": kl, "ratio_stderr": 0.02}
        return (group, method), ({"method": method, "ours": ours, "group": group}, point)

    others = [
        row("theirs", 3.7, 0.6, ours=False, group="windows"),
        row("worse", 3.1, 0.9, ours=False, group="windows"),
        row("larger", 4.3, 0.1, ours=False, group="others"),
        row("largest", 8.3, 0.05, ours=False, group="others"),
    ]
    first = dict([row("plain", 3.25, 1.0), row("good", 3.25, 0.5), *others])
    second = dict([row("plain", 3.25, 1.0), row("good", 3.25, 0.4)])
    (line,) = best([first, second]).splitlines()
    assert "3.25 a value: good, 0.40 to 0.50 of Lloyd-Max's KL (± 0.02 at most)" in line
    assert "theirs at 3.70, has 1.2 ± 0.2 times its KL" in line
    assert line.endswith("the smallest of no more KL, larger, takes 4.30.")


def one_point(method, ours, bits, kl, group="3 bits"):
    quality = {"kl": {"mean": kl, "stderr": 0.1 * kl}}
    point = {"context": 8, "bits_per_value": bits, "quality": quality}
    return {"group": group, "method": method, "ours": ours, "points": [point]}


def test_other_caches_are_held_against_the_best_of_ours_of_no_more_bits():
    rows = [one_point("small", True, 3.0, 0.1), one_point("large", True, 4.0, 0.02)]
    rows += [one_point("too small", False, 2.5, 0.3), one_point("bf16", False, 16, 0.001)]
    assert beaten([{"rows": rows}]) == ""
    rows += [one_point("equal", False, 3.0, 0.3), one_point("larger", False, 3.5, 0.2)]
    said = beaten([{"rows": rows}])
    assert "Of the 2 points" in said
    assert said.endswith("at least 2.0 ± 0.3 times (larger). ")
    rows.append(one_point("better", False, 4.5, 0.02))
    said = beaten([{"rows": rows}])
    assert said.endswith(
        "the 3 points of other caches, bf16 apart, 1 have no more KL than all of "
        "ours of no more bits: better (1). "
    )


def test_the_newest_tokens_are_held_against_the_same_codes_without():
    rows = [
        one_point("query-trellis, 8-bit scales", True, 3.125, 0.2),
        one_point("query-trellis, 3 bits, newest 64 in 16", True, 3.25, 0.05, "windows"),
        one_point("KIVI, 3 bits", False, 4.1, 0.2, "windows"),
    ]
    assert newest([{"rows": rows[:1]}]) == ""
    assert "leave 0.25 of the KL of the same codes, for 0.12 bits" in newest([{"rows": rows}])


def test_scales_of_8_bits_are_held_against_those_of_16_in_the_same_group():
    def pair(group, plain, short):
        return [
            one_point("plain", True, 3.25, plain, group),
            one_point("plain, 8-bit scales", True, 3.13, short, group),
        ]

    rows = [*pair("3 bits", 0.1, 0.11), *pair("3 bits, seed 1", 0.1, 0.13)]
    rows += pair("2 bits", 0.2, 0.21)
    assert scales([{"rows": rows[:1]}]) == ""
    said = scales([{"rows": rows}])
    assert "at 3 bits +20.0% (plain); at 2 bits +5.0% (plain) (± 10.0% at most)" in said
