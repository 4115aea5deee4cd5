"""Example prompts to continue, written for this project; the first is the default."""

EXAMPLES: dict[str, str] = {
    "A lighthouse": (
        "The lighthouse stood on a rock two miles from the harbour, and for thirty years the same "
        "family had kept its lamp. Every evening the keeper climbed the stairs with a can of oil, "
        "trimmed the wick and wound the clockwork that turned the lens. His daughter wrote down "
        "the weather, the ships that passed and the hour at which each of them was seen. On the "
        "first night of the storm she wrote that"
    ),
    "A city": "The history of the city begins with a bridge over the river. In the early",
    "Python": (
        "A list is a mutable sequence. Its items can be changed after it was created: assignment "
        "to an index replaces an item, and the method append adds one at the end. A tuple is an "
        "immutable sequence, which means that"
    ),
    "A pattern": "one two three four, one two three four, one two three four, one two",
}
