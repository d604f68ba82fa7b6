"""Generation: tokens after tokens, greedily, by sampling or by beam search."""

from graphformer.models.generation.decoders import Source, decoding_options
from graphformer.models.generation.generate import evaluating, generate
from graphformer.models.generation.prompts import as_texts, max_length

__all__ = ["Source", "as_texts", "decoding_options", "evaluating", "generate", "max_length"]
