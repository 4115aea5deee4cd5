"""Train the bundled model: a folder of text in, tokenizer, weights and model card out.

One GPU, under nine minutes with `TrainingPlan()`; a CPU walks the same path for a look. Knows
nothing of compression.
"""

import platform
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, Qwen2ForCausalLM

from turbo_kv.models import train_text
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.train_card import data_sources, model_card
from turbo_kv.models.train_check import continuation, held_out_perplexity
from turbo_kv.models.train_loop import fit
from turbo_kv.models.train_model import build, key_bias_norms
from turbo_kv.models.train_plan import SMOKE, TrainingPlan, TrainingReport

SHARD = "9MB"
PROMPTS = (
    "The city was founded in",
    "In the early morning of the day after the battle, the old man",
    "The purpose of this document is to",
)
# Seconds of the plan kept for saving and measuring.
AFTERWARDS = 20.0


def train_tiny(
    corpus: Path,
    out: Path,
    *,
    plan: TrainingPlan | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> TrainingReport:
    """Train tokenizer and model on a folder of .txt and .txt.xz files and save them in `out`.

    plan: None for the bundled model's on a GPU, for a smoke run's on a CPU.
    device: "auto", "cuda" or "cpu". The corpus's valid.txt is measured, never trained on.
    Raises ValueError for a folder without text, a corpus shorter than a window, an unknown device.
    """
    where = _device(device)
    plan = plan or (TrainingPlan() if where.type == "cuda" else SMOKE)
    clock = _Clock()

    progress(0.0, "reading the corpus")
    documents = train_text.read_documents(corpus)
    clock.lap("read")
    progress(0.0, f"training a tokenizer on {len(documents):,} documents")
    tokenizer = train_text.train_tokenizer(documents, plan.config.vocab_size)
    clock.lap("tokenizer")
    progress(0.0, "encoding the corpus")
    stream = train_text.encode(tokenizer, documents)
    clock.lap("encode")

    model = build(plan.config, plan.seed, plan.bias).to(where)
    seconds = plan.seconds - clock.total - AFTERWARDS
    training = fit(model, stream.to(where), plan, seconds, progress)
    clock.lap("train")

    progress(1.0, "saving and measuring")
    _save(model, tokenizer, out)
    report = TrainingReport(
        parameters=model.num_parameters(),
        device=torch.cuda.get_device_name(where) if where.type == "cuda" else platform.machine(),
        dtype="bfloat16 over float32 weights" if where.type == "cuda" else "float32",
        plan=plan.settings(),
        corpus={
            "documents": len(documents),
            "characters": sum(map(len, documents)),
            "tokens": len(stream),
        },
        training=training,
        sources=data_sources(corpus),
        **_measured(out, corpus, where),
        seconds=clock.lap("save and measure"),
    )
    (out / "README.md").write_text(model_card(report), encoding="utf-8")
    return report


class _Clock:
    """Wall clock of the command, lap by lap."""

    def __init__(self) -> None:
        self.started = self.last = time.monotonic()
        self.laps = {}

    @property
    def total(self) -> float:
        return time.monotonic() - self.started

    def lap(self, name: str) -> dict[str, float]:
        now = time.monotonic()
        self.laps[name] = round(now - self.last, 2)
        self.last = now
        return {**self.laps, "total": round(now - self.started, 2)}


def _device(name: str) -> torch.device:
    if name not in ("auto", "cuda", "cpu"):
        raise ValueError(f"device is {name!r}; training runs on 'auto', 'cuda' or 'cpu'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _save(model: Qwen2ForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """Write the model in bf16 and its tokenizer, in place of an earlier one."""
    out.mkdir(parents=True, exist_ok=True)
    for earlier in out.glob("model*.safetensors*"):
        earlier.unlink()
    model.bfloat16().save_pretrained(out, max_shard_size=SHARD)
    train_text.save_tokenizer(tokenizer, out)


def _measured(out: Path, corpus: Path, where: torch.device) -> dict[str, Any]:
    """What the saved model does, as anyone would load it."""
    tokenizer = AutoTokenizer.from_pretrained(out)
    perplexity = {}
    for dtype in (torch.bfloat16, torch.float32):
        model = Qwen2ForCausalLM.from_pretrained(out, dtype=dtype).to(where).eval()
        name = str(dtype).removeprefix("torch.")
        perplexity[name] = held_out_perplexity(model, tokenizer, corpus / train_text.HELD_OUT)
    return {
        "perplexity": perplexity,
        "continuations": {prompt: continuation(model, tokenizer, prompt) for prompt in PROMPTS},
        "key_bias_norms": key_bias_norms(model),
    }
