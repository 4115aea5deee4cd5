"""Run a model under a named attention implementation for a moment, and nobody else meanwhile.

transformers keeps the name in the model's config, so every thread that uses a model sees it change.
Here whoever changes it holds the model until it is changed back. A thread that runs the model
without asking here is not kept out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from weakref import WeakKeyDictionary

from transformers import PreTrainedModel

_locks: WeakKeyDictionary[PreTrainedModel, RLock] = WeakKeyDictionary()
_lookup = RLock()


@contextmanager
def attending(model: PreTrainedModel, name: str | None = None) -> Iterator[None]:
    """Within the block `model` attends by `name`, or by its own implementation when None."""
    with _lookup:
        lock = _locks.setdefault(model, RLock())
    with lock:
        own = model.config._attn_implementation
        if name is None or name == own:
            yield
            return
        model.set_attn_implementation(name)
        try:
            yield
        finally:
            model.set_attn_implementation(own)
