"""A folder of text to one stream of token ids: read, train a byte-level BPE, encode.

The stream is what the tokenizer makes of the files as they are, the line <|endoftext|> between
two documents included. Knows nothing of the model.
"""

import json
import lzma
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

END = "<|endoftext|>"
HELD_OUT = "valid.txt"
# The pattern that splits text into words before merging, as published with Qwen2's tokenizer.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Encoding holds about a hundred bytes per token beside its id, so the corpus goes in portions.
DOCUMENTS_AT_ONCE = 4096


def read_documents(corpus: Path) -> list[str]:
    """The documents of every .txt and .txt.xz file of a folder but the held-out one, by name.

    Raises ValueError if the folder is missing or holds no such file.
    """
    paths = sorted(
        path
        for pattern in ("*.txt", "*.txt.xz")
        for path in corpus.glob(pattern)
        if path.name != HELD_OUT
    )
    if not paths:
        raise ValueError(f"{corpus} holds no .txt or .txt.xz file; name a folder of UTF-8 text")
    with ThreadPoolExecutor() as pool:
        texts = list(pool.map(_read, paths))
    return [document for text in texts for document in text.split(END)]


def _read(path: Path) -> str:
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return file.read()


def train_tokenizer(documents: list[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE with Qwen2's normalization and split pattern; <|endoftext|> is id 0.

    Learns from every fourth document, which is plenty for a few thousand merges.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents[::4], trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, documents: list[str]) -> torch.Tensor:
    """Token ids of the documents, END between two of them: int32 (N,)."""
    return torch.cat(list(_encoded(tokenizer, documents)))[:-1]


def _encoded(tokenizer: Tokenizer, documents: list[str]) -> Iterator[torch.Tensor]:
    end = tokenizer.token_to_id(END)
    for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
        for encoding in tokenizer.encode_batch_fast(documents[start : start + DOCUMENTS_AT_ONCE]):
            yield torch.tensor([*encoding.ids, end], dtype=torch.int32)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the two files from which `AutoTokenizer` loads it as a Qwen2 tokenizer."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
