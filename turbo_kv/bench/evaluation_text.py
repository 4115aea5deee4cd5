"""The text that a model is evaluated on, cut into windows as the field does it.

A text is tokenized whole and cut into windows of `context` tokens, each as long as the stride to
the next: nothing is read twice and nothing is repeated. GPTQ's and most papers' WikiText-2 figures
are all windows of 2,048 tokens of the test split, joined by blank lines; llama.cpp calls a window a
chunk and takes 512 tokens. The last, incomplete window is left out. Knows nothing of models beyond
their tokenizer.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from turbo_kv.models.text import DEFAULT_SOURCE, PreparedText, read_source, token_ids

WIKITEXT = "wikitext-2"
WIKITEXT_NAME = "WikiText-2 raw, test split"


@dataclass(frozen=True)
class EvaluationText:
    """A text by name, and its first `windows` windows to evaluate; 0 takes them all."""

    name: str
    text: str
    windows: int = 1

    @property
    def sha256(self) -> str:
        """Hex, of the UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_text(given: str | None, windows: int = 1) -> EvaluationText:
    """The bundled default for None, WikiText-2 for "wikitext-2", else a UTF-8 file.

    Raises ValueError for a file that cannot be read, for WikiText-2 that cannot be had, and for a
    negative number of windows.
    """
    if windows < 0:
        raise ValueError(f"windows is {windows}; choose 1 or more, or 0 for the whole text")
    if given is None:
        return EvaluationText(DEFAULT_SOURCE, read_source(DEFAULT_SOURCE), windows)
    if given == WIKITEXT:
        return EvaluationText(WIKITEXT_NAME, _wikitext(), windows)
    try:
        return EvaluationText(Path(given).name, Path(given).read_text(encoding="utf-8"), windows)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"cannot read {given} as UTF-8 text ({error}); give a file, or {WIKITEXT}"
        ) from error


def cut(tokenizer: PreTrainedTokenizerBase, text: EvaluationText, context: int) -> PreparedText:
    """The windows as one PreparedText whose tokens are (windows, context).

    Raises ValueError for a text without one whole window.
    """
    ids = token_ids(tokenizer, text.text)
    whole = len(ids) // context
    windows = min(text.windows or whole, whole)
    if windows == 0:
        raise ValueError(
            f"{text.name} has {len(ids):,} tokens, fewer than one window of {context:,}; "
            "choose a shorter context or a longer text"
        )
    note = f"{windows:,} of {whole:,} windows of {context:,} tokens, stride {context:,}."
    return PreparedText(
        tokens=torch.tensor(ids[: windows * context]).view(windows, context),
        name=text.name,
        sha256=text.sha256,
        characters=len(text.text),
        notes=(note,),
    )


def _wikitext() -> str:
    try:
        from datasets import load_dataset

        lines = load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1", split="test")["text"]
    except (ImportError, OSError) as error:
        raise ValueError(
            f"WikiText-2 cannot be had ({' '.join(str(error).split())}): pip install datasets and "
            "load it once with the network on, or give its raw test file by its path"
        ) from error
    return "\n\n".join(lines)
