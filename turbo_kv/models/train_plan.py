"""What a training run is asked to do and what it reports: plain data."""

from dataclasses import dataclass, field, fields
from typing import Any

from transformers import Qwen2Config

from turbo_kv.models.train_model import BiasLayout, tiny_config, twin_config


@dataclass(frozen=True)
class TrainingPlan:
    """How much to read, in what portions and how fast to learn.

    tokens: read in all, repeats of the corpus included.
    seconds: wall clock for the whole command. A machine too slow for `tokens` walks the same
        schedule by the clock and reads fewer; otherwise a run depends on plan and corpus alone.
    batch_tokens: per step.
    contexts, long_share: window length, and the share of the tokens read at the second one.
    warmup_steps, decay_share: the rates rise over the first steps and fall linearly to zero over
        the last share of the run.
    matrix_rate, other_rate: peak rates of Muon and of AdamW (embedding, norms, biases).
    bias: how the key bias is planted (train_model.py).
    """

    config: Qwen2Config = field(default_factory=tiny_config)
    tokens: int = 780_000_000
    seconds: float = 525.0
    batch_tokens: int = 65_536
    contexts: tuple[int, int] = (1024, 8192)
    long_share: float = 0.15
    warmup_steps: int = 200
    decay_share: float = 0.4
    matrix_rate: float = 0.02
    other_rate: float = 1e-2
    seed: int = 0
    bias: BiasLayout = "outer"

    def settings(self) -> dict[str, Any]:
        """Everything but the architecture, which the model's own config tells."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "config"}


SMOKE = TrainingPlan(
    config=tiny_config(hidden_size=96, intermediate_size=192, num_hidden_layers=2),
    tokens=16_384,
    seconds=60.0,
    batch_tokens=1024,
    contexts=(64, 128),
    warmup_steps=4,
)
"""A look at the whole path in seconds on a CPU; what it trains is of no use."""

TWIN = TrainingPlan(
    config=twin_config(), tokens=240_000_000, seconds=200.0, warmup_steps=100, seed=1, bias="even"
)
"""A second model on the same text, unlike the bundled one where caches may mind: what was chosen
on that one is tested on this one."""


@dataclass(frozen=True)
class Stage:
    """The steps trained at one context length."""

    context: int
    steps: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Training:
    """What the loop measured: its stages, and the mean loss in nats up to a number of tokens."""

    stages: list[Stage]
    loss_curve: list[tuple[int, float]]

    @property
    def tokens(self) -> int:
        return sum(stage.tokens for stage in self.stages)


@dataclass(frozen=True)
class TrainingReport:
    """A finished run.

    seconds: wall clock by step of the command, and "total".
    perplexity: of the saved weights on the corpus's valid.txt, by dtype and context; empty
        without that file.
    key_bias_norms: norm of `k_proj.bias`, layer by KV head.
    sources: the corpus's own account of where its text is from; empty without manifest.json.
    """

    parameters: int
    device: str
    dtype: str
    plan: dict[str, Any]
    corpus: dict[str, int]
    seconds: dict[str, float]
    training: Training
    perplexity: dict[str, dict[int, float]]
    key_bias_norms: list[list[float]]
    continuations: dict[str, str]
    sources: list[dict[str, Any]]
