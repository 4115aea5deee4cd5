"""One step of two streams: what each said, held and took. Plain values, without torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Side:
    """One stream's part of a step.

    token: id of the token it said; None once the stream has ended.
    text: characters that this token completed; a token may end inside a character and add none.
    cache_bytes: storage of its cache, which holds everything before this token.
    seconds: from the last token to this one; at the first step, for the prompt.
    """

    token: int | None
    text: str
    cache_bytes: int
    seconds: float


@dataclass(frozen=True)
class Step:
    """The tokens at one position of the exact and of the packed stream.

    kl: of the packed next-token distribution from the exact one, in nats. None where the two are
    not comparable: at the first step, which reads no cache, and after the streams have parted.
    """

    index: int
    exact: Side
    packed: Side
    kl: float | None

    @property
    def same(self) -> bool:
        return self.exact.token == self.packed.token
