"""Tell how far a forward pass is between its layers: a long one can then be followed, and left.

Knows the model's layers and the clock, nothing of what is computed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter

from transformers import PreTrainedModel

PAUSE = 0.5
"""Seconds between two words: telling costs the work its time."""


@contextmanager
def layer_by_layer(model: PreTrainedModel, tell: Callable[[float], None]) -> Iterator[None]:
    """Within the block, `tell(share of the layers done)` between layers, at most every PAUSE.

    What it raises ends the forward pass.
    """
    layers = model.get_decoder().layers
    told = perf_counter()

    def pause(share: float) -> None:
        nonlocal told
        if perf_counter() - told >= PAUSE:
            told = perf_counter()
            tell(share)

    with ExitStack() as hooks:
        for index, layer in enumerate(layers):
            share = index / len(layers)
            hook = layer.register_forward_pre_hook(lambda *_, share=share: pause(share))
            hooks.callback(hook.remove)
        yield
