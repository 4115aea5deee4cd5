"""What a report says of a loaded model and a prepared text, and how long a text may be."""

from turbo_kv.cache.rope import head_dim
from turbo_kv.measure.report import ModelFacts, TextFacts
from turbo_kv.models.load import LoadedModel
from turbo_kv.models.text import PreparedText


def model_facts(loaded: LoadedModel) -> ModelFacts:
    """The model, from its config and the memory it takes."""
    config = loaded.model.config.get_text_config()
    return ModelFacts(
        name=loaded.name,
        layers=config.num_hidden_layers,
        query_heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=head_dim(config),
        device=loaded.placement,
        dtype=str(loaded.dtype).removeprefix("torch."),
        weights_bytes=loaded.weights_bytes,
    )


def text_facts(prepared: PreparedText) -> TextFacts:
    """The text, without its tokens."""
    return TextFacts(prepared.name, prepared.sha256, prepared.characters, prepared.notes)


def longest_text(loaded: LoadedModel) -> int:
    """Tokens that the model has positions for."""
    return loaded.model.config.get_text_config().max_position_embeddings
