"""The training loop: windows of a token stream in, a trained model out.

Matrices go to Muon, everything else to AdamW without decay, so nothing pulls the planted key
bias back. Knows nothing of text, files or what happens to the model afterwards.
"""

import math
import time
from collections.abc import Iterator

import torch
from transformers import Qwen2ForCausalLM

from turbo_kv.models.progress import Progress
from turbo_kv.models.train_gradient import Gradient
from turbo_kv.models.train_muon import Muon
from turbo_kv.models.train_plan import Stage, Training, TrainingPlan

STEPS_PER_POINT = 100


def fit(
    model: Qwen2ForCausalLM,
    stream: torch.Tensor,
    plan: TrainingPlan,
    seconds: float,
    progress: Progress,
) -> Training:
    """Train in place for plan.tokens, or by the clock if those would take longer than seconds.

    stream: token ids, integer (N,), on the model's device. Raises ValueError if it is shorter
    than a window, RuntimeError if the loss is no longer finite.
    """
    if len(stream) <= max(plan.contexts):
        raise ValueError(
            f"the corpus has {len(stream):,} tokens and training at context "
            f"{max(plan.contexts):,} needs more: add text"
        )
    gradient = Gradient(model)
    optimizers = _optimizers(model, plan)
    generator = torch.Generator().manual_seed(plan.seed)
    curve = _Curve(progress)
    stages, started = [], time.monotonic()
    tokens = step = 0
    for context, end in zip(plan.contexts, (1 - plan.long_share, 1.0)):
        begun, tokens_before, steps_before = time.monotonic(), tokens, step
        for windows in batches(stream, context, max(1, plan.batch_tokens // context), generator):
            done = max(tokens / plan.tokens, (time.monotonic() - started) / seconds)
            if done >= end:
                break
            scale = min(1.0, (step + 1) / plan.warmup_steps, (1 - done) / plan.decay_share)
            loss = gradient(windows)
            for optimizer, rate in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * scale
                optimizer.step()
            tokens += windows[:, 1:].numel()
            step += 1
            curve.add(loss, tokens, done)
        curve.close(tokens, done)
        lasted = time.monotonic() - begun
        stages.append(Stage(context, step - steps_before, tokens - tokens_before, lasted))
    return Training(stages, curve.points)


def batches(
    stream: torch.Tensor, context: int, count: int, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """Endless batches of windows, int64 (count, context + 1), of a stream (N,), N > context.

    An epoch cuts the stream at a random offset into windows whose first `context` tokens are
    disjoint, and shuffles them.
    """
    span = torch.arange(context + 1, device=stream.device)
    starts = torch.empty(0, dtype=torch.long)
    while True:
        while len(starts) < count:
            room = len(stream) - context
            offset = int(torch.randint(min(context, room), (), generator=generator))
            epoch = torch.arange(offset, room, context)
            starts = torch.cat([starts, epoch[torch.randperm(len(epoch), generator=generator)]])
        batch, starts = starts[:count], starts[count:]
        yield stream[batch.to(stream.device)[:, None] + span].long()


class _Curve:
    """The loss as it falls: the mean of every STEPS_PER_POINT steps, read from the device once."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.points = []
        self.waiting = []

    def add(self, loss: torch.Tensor, tokens: int, done: float) -> None:
        self.waiting.append(loss)
        if len(self.waiting) == STEPS_PER_POINT:
            self.close(tokens, done)

    def close(self, tokens: int, done: float) -> None:
        """Average what waits; raises RuntimeError if it is not finite."""
        if not self.waiting:
            return
        loss = torch.stack(self.waiting).mean().item()
        if not math.isfinite(loss):
            raise RuntimeError(f"the loss is {loss} after {tokens:,} tokens: lower the rates")
        self.waiting = []
        self.points.append((tokens, round(loss, 4)))
        self.progress(done, f"{tokens / 1e6:.1f} M tokens, loss {loss:.3f}")


def _optimizers(
    model: Qwen2ForCausalLM, plan: TrainingPlan
) -> list[tuple[torch.optim.Optimizer, float]]:
    """The two optimizers, each with its peak rate."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    chosen = set(matrices)
    others = [weight for weight in model.parameters() if weight not in chosen]
    adam = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return [(Muon(matrices, plan.matrix_rate), plan.matrix_rate), (adam, plan.other_rate)]
