"""Example prompts to continue, written for this project; the first is the default."""

EXAMPLES: dict[str, str] = {
    "A comet": (
        "A comet is a small body of ice and dust that moves around the Sun. When it comes near "
        "the Sun, the ice turns into gas, and the gas and dust form a long tail. The tail always "
        "points away from the Sun. Some comets return after a few years, others only after "
        "thousands of years. The most famous of them was seen"
    ),
    "A letter": (
        "Dear Anna, we arrived here on Tuesday evening after a long journey. The house is old and "
        "cold, but the garden runs down to the sea and the children are happy. Yesterday we walked "
        "to the village and bought bread and cheese. The woman in the shop told us a strange story "
        "about the house. She said that"
    ),
    "A railway": (
        "The railway reached the town in the spring. Before that, goods came up the river in flat "
        "boats, and the journey from the coast took four days. The company bought the land along "
        "the river, built a station of red brick and a bridge of iron, and hired two hundred men. "
        "Within ten years the number of people in the town had doubled, the mills worked day and "
        "night, and the old market was too small. The new market, which was built"
    ),
    "Python": (
        "A list is a mutable sequence: its items can be changed after it was created. Assignment "
        "to an index replaces one item, and the method append adds an item at the end. A tuple is "
        "an immutable sequence. Its items cannot be changed, and so it can be used as the key of a "
        "dictionary. A set is"
    ),
    "A pattern": "one two three four, one two three four, one two three four, one two",
}
