"""Token ids to text while they come: a character is said once all its bytes are there.

A byte-level token may end inside a character, which decodes to U+FFFD until the rest arrives. Knows
the tokenizer's `decode` and nothing of its vocabulary.
"""

from transformers import PreTrainedTokenizerBase

INCOMPLETE = "�"


class StreamingText:
    """The pieces of `push` and `flush`, joined, are `tokenizer.decode` of all tokens pushed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._said: list[int] = []  # the tokens of the last piece, which spaces may depend on
        self._held: list[int] = []

    def push(self, token: int) -> str:
        """The characters that `token` completes; none while the last one lacks bytes."""
        self._held.append(token)
        piece = self._piece()
        if piece.endswith(INCOMPLETE):
            return ""
        self._said, self._held = self._held, []
        return piece

    def flush(self) -> str:
        """What is held back, U+FFFD for bytes that never became a character."""
        piece = self._piece()
        self._said, self._held = [], []
        return piece

    def _piece(self) -> str:
        """What the held tokens add to the said ones."""
        return self._decode(self._said + self._held)[len(self._decode(self._said)) :]

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
