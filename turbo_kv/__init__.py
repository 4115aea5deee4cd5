"""3-bit TurboQuant KV caches for Qwen2.5: quantize, generate, measure.

The five public names load on first use, so `import turbo_kv` needs neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turbo_kv.cache.kv_cache import TurboKVCache
    from turbo_kv.measure.analyze import analyze
    from turbo_kv.measure.report import Report
    from turbo_kv.quant.config import QuantConfig
    from turbo_kv.quant.quantizer import TurboQuantizer

__all__ = ["QuantConfig", "Report", "TurboKVCache", "TurboQuantizer", "analyze"]
__version__ = "0.1.0"

_HOME = {
    "QuantConfig": "turbo_kv.quant.config",
    "Report": "turbo_kv.measure.report",
    "TurboKVCache": "turbo_kv.cache.kv_cache",
    "TurboQuantizer": "turbo_kv.quant.quantizer",
    "analyze": "turbo_kv.measure.analyze",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'turbo_kv' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
