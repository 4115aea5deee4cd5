"""What a lack of memory is called, so that whoever keeps something for later can let it go."""


class ShortOfMemoryError(ValueError):
    """Work does not fit into memory, or memory ran out; says the numbers and what would fit."""
