"""Checkpoints in Hugging Face's format: loading, saving, and our attention in `transformers`."""

from graphformer.data.batch import pack_images
from graphformer.deprecated import renamed_exports
from graphformer.pretrained.attention_report import report_attention
from graphformer.pretrained.builders import (
    classifier,
    decoder,
    head_kind,
    masked_language_model,
    sentence_encoder,
    tagger,
)
from graphformer.pretrained.loading import from_pretrained
from graphformer.pretrained.saving import save_pretrained
from graphformer.pretrained.tokenizer import PretrainedTokenizer, read_pretrained_tokenizer
from graphformer.pretrained.transformers_attention import register_with_transformers

__all__ = [
    "PretrainedTokenizer",
    "classifier",
    "decoder",
    "from_pretrained",
    "head_kind",
    "masked_language_model",
    "pack_images",
    "read_pretrained_tokenizer",
    "register_with_transformers",
    "report_attention",
    "save_pretrained",
    "sentence_encoder",
    "tagger",
]

__getattr__ = renamed_exports(
    __name__,
    {
        "kind_of": "head_kind",
        "load_tokenizer": "read_pretrained_tokenizer",
        "packed_images": "pack_images",
    },
)
