"""The trained model that ships with the package: where it lies.

Its README tells how it was trained and from what; `train_tiny.py` is what trained it.
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "tiny"


def folder() -> Path:
    """The folder with weights, configuration and tokenizer.

    Raises ValueError when the weights are not there.
    """
    if not any(FOLDER.glob("*.safetensors")):
        raise ValueError(
            f"the bundled model has no weights in {FOLDER}; install turbo_kv again, or train them: "
            "python -m turbo_kv train-tiny --corpus DIR"
        )
    return FOLDER
