"""The stored first paint: readable by the page, and what the bundled model measures."""

import pytest

from turbo_kv.bench.precompute import precompute
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import precomputed


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    precompute(folder)
    return precomputed.read(folder)


def test_the_page_reads_what_was_written(fresh):
    session = fresh.session
    assert session.shown.config == QuantConfig()
    assert session.before.config == QuantConfig(centering="off")
    assert session.shown.complete
    assert {config for config, *_ in fresh.maps} == set(session.runs)
    assert {(layer, head) for _, layer, head in fresh.maps} == {session.selected}


def test_the_maps_agree_with_the_reports(fresh):
    layer, head = fresh.session.selected
    for (config, *_), measured in fresh.maps.items():
        report = fresh.session.runs[config]
        assert measured.top1 == pytest.approx(report.layers[layer].top1[head], abs=0.01)
        assert measured.exact.sum(axis=1).mean() == pytest.approx(measured.mass, abs=0.01)


def test_the_lessons_are_about_the_head_on_screen_and_agree_with_the_reports(fresh):
    layer, head = fresh.session.selected
    assert (fresh.lessons.layer, fresh.lessons.head) == (layer, head)
    for config, report in fresh.session.runs.items():
        price = fresh.lessons.prices.way(config.bits, config.centering)
        assert price.kl == pytest.approx(report.layers[layer].attention_kl[head], rel=1e-3)
        assert price.bits_per_value == pytest.approx(report.bits_per_value, rel=1e-4)


def test_what_is_on_screen_first_is_what_the_bundled_model_measures(fresh):
    stored = precomputed.read().session
    same_text = stored.shown.text.sha256 == fresh.session.shown.text.sha256
    for config, report in stored.runs.items():
        again = fresh.session.runs[config]
        assert report.after == again.after
        kl = [float(one.grid("attention_kl").mean()) for one in (report, again)]
        # Another Python carries another edition of the text, close to this one.
        assert kl[0] == pytest.approx(kl[1], rel=0.05 if same_text else 0.5)
