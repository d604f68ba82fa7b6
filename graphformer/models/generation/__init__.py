"""Generation: greedy decoding, sampling and beam search, with a key-value cache."""

from graphformer.models.generation.causal_patterns import DecodingOptions, decoding_options
from graphformer.models.generation.defaults import with_defaults
from graphformer.models.generation.encoder_output import EncoderOutput
from graphformer.models.generation.generate import RENAMED, GenerateOptions, generate
from graphformer.models.generation.modes import eval_mode
from graphformer.models.generation.prompts import Prompts, as_token_lists, max_length

__all__ = [
    "RENAMED",
    "DecodingOptions",
    "EncoderOutput",
    "GenerateOptions",
    "Prompts",
    "as_token_lists",
    "decoding_options",
    "eval_mode",
    "generate",
    "max_length",
    "with_defaults",
]
