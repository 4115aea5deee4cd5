"""Colours: enough contrast for text on every one of them."""

from turbo_kv.figures import style


def contrast(a: str, b: str) -> float:
    low, high = sorted((style.luminance(a), style.luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_text_is_readable_on_every_colour():
    for fill in (*style.palette(), *style.PARTS.values(), style.BEFORE):
        assert contrast(fill, style.readable_on(fill)) >= 4.5


def test_the_palette_runs_from_dark_to_bright():
    lights = [style.luminance(fill) for fill in style.palette()]
    assert lights == sorted(lights)
    assert len(lights) == style.LEVELS


def test_luminance_has_the_known_ends():
    assert style.luminance("#000000") == 0
    assert style.luminance("#ffffff") == 1
