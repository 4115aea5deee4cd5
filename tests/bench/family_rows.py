"""Made-up rows for tests of what is written from them; never shown as results."""

from turbo_kv.measure.cosines import DEFINITIONS

PACKAGES = ("turbo_kv", "commit", "torch", "transformers")


def row(model, context=2048, weights="trained", device="cpu", missing=None, **changes):
    """A row in the form of the result files, with round figures."""
    figures = {
        "dtype": "float32",
        "memory": {
            "before_bytes": 448 * 2**20,
            "after_bytes": 88 * 2**20,
            "ratio": 448 / 88,
            "bits_per_value": 16 * 88 / 448,
        },
        "seconds": {"capture": 2.0, "quantize": 0.25},
        "peak_bytes": 2**30,
        "windows": None,
        "cosine": None,
        "attention": None,
        "quality": None,
    }
    if weights == "trained":
        figures |= {
            "windows": 1,
            "cosine": {side: dict.fromkeys(DEFINITIONS, 0.995) for side in ("keys", "values")},
            "attention": {
                "kl_mean": 0.02,
                "kl_max": 0.1,
                "logit_correlation_mean": 0.99,
                "logit_correlation_min": 0.95,
                "top1": 0.9,
            },
            "quality": {
                "reference": {"perplexity": 10.0, "stderr": 1.0},
                "quantized": {"perplexity": 10.5, "stderr": 1.0},
                "change": {"relative": 0.05, "stderr": 0.01},
                "kl": {"mean": 0.03, "stderr": 0.001, "p99": 0.2},
                "top1": 0.88,
            },
        }
    return {
        "model": model,
        "weights": weights,
        "context": context,
        "device": device,
        "machine": f"a {device}",
        "text": {"name": "Prose", "sha256": "0", "windows": 1} if weights == "trained" else None,
        **(dict.fromkeys(figures) if missing else figures),
        "missing": missing,
        "stamp": {"date": "2026-01-02T03:04:05"} | dict.fromkeys(PACKAGES, "1.0"),
        **changes,
    }
