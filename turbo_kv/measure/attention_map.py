"""One query head's attention, exact and packed, small enough to draw.

Softmax runs over all keys; the window is cut afterwards. Knows nothing of drawing.
"""

from dataclasses import dataclass

import numpy as np
import torch

from turbo_kv.measure.analyze import Prepared
from turbo_kv.measure.roundtrip import roundtrip
from turbo_kv.quant.config import QuantConfig

WINDOW = 256


@dataclass(frozen=True)
class AttentionMap:
    """Attention weights of a head's last queries (Q) on a window of keys (K), fp32.

    first_query, first_key: positions of the first row and column; tokens to come weigh 0.
    query_tokens, key_tokens: the text of each row and column.
    mass: share of the exact weight that falls inside the window.
    total_variation: share of its weight that a query moves to other keys, over all keys.
    top1: share of queries whose strongest key, over all keys, is unchanged.
    """

    layer: int
    head: int
    exact: np.ndarray  # (Q, K)
    packed: np.ndarray  # (Q, K)
    first_query: int
    first_key: int
    query_tokens: tuple[str, ...]
    key_tokens: tuple[str, ...]
    mass: float
    total_variation: float
    top1: float

    @property
    def difference(self) -> np.ndarray:
        """Packed minus exact weights, (Q, K)."""
        return self.packed - self.exact


@torch.inference_mode()
def attention_map(
    prepared: Prepared,
    config: QuantConfig,
    layer: int,
    head: int,
    first_key: int | None = None,
    *,
    window: int = WINDOW,
) -> AttentionMap:
    """Attention of query head `head` with exact keys, and with keys stored as `config` says.

    The window ends with the text unless `first_key` says where it starts. Raises ValueError for a
    layer, head or key that does not exist.
    """
    model, length = prepared.model, prepared.capture.tokens.shape[1]
    for name, value, end in (
        ("layer", layer, model.layers),
        ("head", head, model.query_heads),
        ("first_key", first_key or 0, length),
    ):
        if not 0 <= value < end:
            raise ValueError(f"{name} is {value}; choose 0 to {end - 1}")

    captured = prepared.capture.layers[layer]
    kv_head = head * model.kv_heads // model.query_heads
    queries = captured.queries[0, head].float() * captured.scaling  # (Q, D)
    exact, packed = (
        causal_softmax(queries @ keys[0, kv_head].float().T)  # (Q, T)
        for keys in (captured.keys, roundtrip(prepared.capture, layer, config).keys)
    )
    start = max(0, length - window) if first_key is None else first_key
    columns = slice(start, min(start + window, length))
    first_query = length - len(queries)
    tokens = prepared.capture.tokens[0]
    return AttentionMap(
        layer=layer,
        head=head,
        exact=exact[:, columns].cpu().numpy(),
        packed=packed[:, columns].cpu().numpy(),
        first_query=first_query,
        first_key=start,
        query_tokens=tuple(map(prepared.decode, tokens[first_query:].tolist())),
        key_tokens=tuple(map(prepared.decode, tokens[columns].tolist())),
        mass=exact[:, columns].sum(dim=-1).mean(dim=0).item(),
        total_variation=(exact - packed).abs().sum(dim=-1).mean(dim=0).item() / 2,
        top1=(exact.argmax(dim=-1) == packed.argmax(dim=-1)).float().mean(dim=0).item(),
    )


def causal_softmax(logits: torch.Tensor) -> torch.Tensor:
    """Softmax of each row (Q, T) over the keys up to its position, in place of the logits."""
    rows, length = logits.shape
    future = torch.ones(rows, length, dtype=torch.bool, device=logits.device).triu(
        length - rows + 1
    )
    return logits.masked_fill_(future, -torch.inf).softmax(dim=-1)
