"""What a freshly trained model can do: perplexity on held-out text and a greedy continuation.

One exact forward per window; perplexity through a packed cache is measured elsewhere.
"""

import math
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

CONTEXTS = (512, 2048, 8192)


def held_out_perplexity(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, path: Path
) -> dict[int, float]:
    """Perplexity on a text file at each of CONTEXTS; empty if there is no such file."""
    if not path.exists():
        return {}
    tokens = tokenizer(path.read_text(encoding="utf-8"), return_tensors="pt")["input_ids"][0]
    return {context: perplexity(model, tokens, context) for context in CONTEXTS}


@torch.inference_mode()
def perplexity(model: Qwen2ForCausalLM, tokens: torch.Tensor, context: int) -> float:
    """exp of the mean next-token loss over disjoint windows of a text, integer (N,), N > 1.

    A window's first token is not predicted; the last window may be shorter.
    """
    total, count = 0.0, 0
    for window in tokens.long().to(model.device).split(context):
        if len(window) > 1:
            logits = model(window[None], use_cache=False).logits[0, :-1].float()
            total += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
            count += len(window) - 1
    return math.exp(total / count)


def continuation(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, prompt: str, tokens: int = 60
) -> str:
    """What greedy decoding adds to a prompt."""
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    output = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
