"""The cosines and sines of rotary position embedding, one table for everyone who rotates.

Does not know the keys: whoever removes a rotation and puts it back takes both from here, so that
the two cancel. A model rounds its own table to its dtype; the difference stays in what is stored.
"""

import torch
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

ROPE_TYPES = ("default", "linear", "llama3")


class RopeTable:
    """Cosines and sines for positions 0, 1, 2, ..., grown as they are asked for."""

    def __init__(self, inverse_frequencies: torch.Tensor):
        self.inverse_frequencies = inverse_frequencies.double().cpu()  # (D / 2,)
        self._tables: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    @classmethod
    def from_config(cls, text_config: PreTrainedConfig) -> "RopeTable":
        """The table of a model's text config.

        Raises ValueError for a model without RoPE, a rope type that is not in `ROPE_TYPES`, and
        a rotation of only part of each head.
        """
        rope = getattr(text_config, "rope_parameters", None) or {}
        rope_type = rope.get("rope_type")
        if rope_type not in ROPE_TYPES:
            raise ValueError(
                f"{text_config.model_type}: rope type is {rope_type!r}; "
                f"models that rotate every layer alike with one of {', '.join(ROPE_TYPES)} work"
            )
        if rope.get("partial_rotary_factor", 1.0) != 1.0:
            raise ValueError(
                f"{text_config.model_type}: only {rope['partial_rotary_factor']:.0%} of each head "
                "is rotated; models that rotate whole heads work"
            )
        if rope_type == "default":
            return cls(_default_inverse_frequencies(rope["rope_theta"], head_dim(text_config)))
        return cls(ROPE_INIT_FUNCTIONS[rope_type](text_config)[0])

    def cos_sin(
        self, start: int, stop: int, device: torch.device | str = "cpu"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the positions from `start` to `stop`, fp32 (stop - start, D)."""
        device = torch.device(device)
        cos, sin = self._tables.get(device, (None, None))
        if cos is None or len(cos) < stop:
            cos, sin = self._tables[device] = self._build(2 * stop, device)
        return cos[start:stop], sin[start:stop]

    def _build(self, length: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        # float64: an angle of thousands of radians has few bits left for the turn itself in fp32.
        angles = torch.outer(torch.arange(length).double(), self.inverse_frequencies)
        angles = torch.cat((angles, angles), dim=-1)  # (T, D)
        return angles.cos().float().to(device), angles.sin().float().to(device)


def head_dim(text_config: PreTrainedConfig) -> int:
    """Width of one head; older configs leave it to be derived."""
    explicit = getattr(text_config, "head_dim", None)
    return explicit or text_config.hidden_size // text_config.num_attention_heads


def _default_inverse_frequencies(theta: float, width: int) -> torch.Tensor:
    """theta^(-2i/D) in fp32, as models compute it: their rounding grows with the position."""
    return 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
