"""The prompt a model continues: cleaned and tokenized, never cut. One token is enough."""

import hashlib

import torch
from transformers import PreTrainedTokenizerBase

from turbo_kv.models.text import PreparedText, clean, token_ids


def prepare_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> PreparedText:
    """All tokens of a prompt (1, T), T >= 1. Raises ValueError if it is empty or over 1 MB."""
    if not prompt.strip():
        raise ValueError("the prompt is empty; write something for the model to continue")
    used, removed = clean(prompt)
    notes = (f"Left out {removed:,} control characters of the prompt.",) if removed else ()
    return PreparedText(
        tokens=torch.tensor([token_ids(tokenizer, used)], dtype=torch.int64),
        name="prompt",
        sha256=hashlib.sha256(used.encode()).hexdigest(),
        characters=len(used),
        notes=notes,
    )
