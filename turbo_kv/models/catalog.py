"""The models the project knows by name, and the numbers their caches follow from.

Pure data: nothing here loads, downloads or measures. The Qwen2.5 rows are the published
`config.json` values and exact parameter counts; the tiny model is trained by this project. Each
Qwen2.5 model is pinned to the commit that public projects record for it, so that a change of a
repository changes no result. The hub was not within reach to confirm them: it refuses a commit that
it does not have, and says so. The exact size of a download is the hub's own listing; see `hub.py`.
"""

from dataclasses import dataclass
from difflib import get_close_matches

BF16_BYTES = 2

_APACHE = "Apache-2.0"
_RESEARCH = "Qwen Research License (non-commercial)"
_QWEN = "Qwen License (own terms, >100M MAU needs a licence)"


@dataclass(frozen=True)
class ModelCard:
    """Published facts of one model.

    repo_id: on the Hugging Face hub; None for the model that ships with the package.
    params: tied embeddings counted once.
    revision: commit to load; None for the model that ships with the package.
    """

    name: str
    repo_id: str | None
    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int
    hidden_size: int
    vocab_size: int
    params: int
    max_position_embeddings: int
    licence: str
    revision: str | None = None

    @property
    def weights_bytes(self) -> int:
        """Bytes of the weights in bf16, as stored on the hub: the download but for headers."""
        return self.params * BF16_BYTES

    def kv_bytes_per_token(self) -> int:
        """Bytes one token's keys and values take in bf16, over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BF16_BYTES


TINY = ModelCard(
    name="tiny",
    repo_id=None,
    layers=12,
    query_heads=6,
    kv_heads=2,
    head_dim=64,
    hidden_size=320,
    vocab_size=8_192,
    params=15_416_640,
    max_position_embeddings=8_192,
    licence="MIT",
)

# size, layers, query heads, KV heads, head_dim, hidden, vocabulary, parameters,
# positions of the base model, licence
_QWEN_SIZES = (
    ("0.5B", 24, 14, 2, 64, 896, 151_936, 494_032_768, 32_768, _APACHE),
    ("1.5B", 28, 12, 2, 128, 1_536, 151_936, 1_543_714_304, 131_072, _APACHE),
    ("3B", 36, 16, 2, 128, 2_048, 151_936, 3_085_938_688, 32_768, _RESEARCH),
    ("7B", 28, 28, 4, 128, 3_584, 152_064, 7_615_616_512, 131_072, _APACHE),
    ("14B", 48, 40, 8, 128, 5_120, 152_064, 14_770_033_664, 131_072, _APACHE),
    ("32B", 64, 40, 8, 128, 5_120, 152_064, 32_763_876_352, 131_072, _APACHE),
    ("72B", 80, 64, 8, 128, 8_192, 152_064, 72_706_203_648, 131_072, _QWEN),
)
_INSTRUCT_POSITIONS = 32_768

# size: commits of the base and of the Instruct repository
_REVISIONS = {
    "0.5B": (
        "060db6499f32faf8b98477b0a26969ef7d8b9987",
        "7ae557604adf67be50417f59c2c2f167def9a775",
    ),
    "1.5B": (
        "8faed761d45a263340a0528343f099c05c9a4323",
        "989aa7980e4cf806f80c7fef2b1adb7bc71aa306",
    ),
    "3B": (
        "3aab1f1954e9cc14eb9509a215f9e5ca08227a9b",
        "aa8e72537993ba99e69dfaafa59ed015b17504d1",
    ),
    "7B": (
        "d149729398750b98c0af14eb82c78cfe92750796",
        "a09a35458c702b33eeacc393d103063234e8bc28",
    ),
    "14B": (
        "97e1e76335b7017d8f67c08a19d103c0504298c9",
        "cf98f3b3bbb457ad9e2bb7baf9a0125b6b88caa8",
    ),
    "32B": (
        "1818d35814b8319459f4bd55ed1ac8709630f003",
        "5ede1c97bbab6ce5cda5812749b4c0bdf79b18dd",
    ),
    "72B": (
        "587cc4061cf6a7cc0d429d05c109447e5cf063af",
        "495f39366efef23836d0cfae4fbe635880d2be31",
    ),
}


def _qwen_cards() -> list[ModelCard]:
    cards = []
    for size, *shape, base_positions, licence in _QWEN_SIZES:
        kinds = (("", base_positions), ("-Instruct", _INSTRUCT_POSITIONS))
        for (suffix, positions), revision in zip(kinds, _REVISIONS[size]):
            name = f"Qwen2.5-{size}{suffix}"
            cards.append(ModelCard(name, f"Qwen/{name}", *shape, positions, licence, revision))
    return cards


CATALOG: dict[str, ModelCard] = {card.name: card for card in (TINY, *_qwen_cards())}
SIZES: tuple[ModelCard, ...] = tuple(CATALOG[f"Qwen2.5-{size}"] for size, *_ in _QWEN_SIZES)
"""Every size of Qwen2.5 once: an Instruct model's cache takes the same bytes."""


def card(name: str) -> ModelCard:
    """The card of a name or repository id: "tiny", "Qwen2.5-7B", "Qwen/Qwen2.5-7B".

    Raises ValueError naming the closest and all known names.
    """
    for known in CATALOG.values():
        if name in (known.name, known.repo_id):
            return known
    spelled = {known.casefold(): known for known in CATALOG}
    wanted = name.rsplit("/", maxsplit=1)[-1].casefold()
    close = [spelled[match] for match in get_close_matches(wanted, spelled)]
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise ValueError(f"model {name!r} is not known; {hint}choose one of {', '.join(CATALOG)}")
