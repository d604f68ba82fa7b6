"""Reformer: a decoder or encoder whose blocks attend within chunks, some of them after sorting."""

from __future__ import annotations

from collections.abc import Callable
from math import lcm

from torch import nn

from graphformer.models import Model
from graphformer.nn import Dropout, FeedForward, Head, MultiHeadAttention, Positions, Transformer
from graphformer.patterns import Pattern, PerLayer
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.family import Family, Kind
from graphformer.pretrained.families.reformer.layers import (
    AxialPositions,
    SharedAttention,
    TwoStreamBlock,
    TwoStreamEmbedding,
)
from graphformer.pretrained.families.reformer.patterns import Chunking, Chunks, HashedChunks

LAYER = "encoder.layers.#"
TRUNK = {
    "embedding.features.weight": "embeddings.word_embeddings.weight",
    "embedding.positions.tables.0.weight": "embeddings.position_embeddings.embedding.weight",
    "embedding.positions.rows": "embeddings.position_embeddings.weights.0^V",
    "embedding.positions.columns": "embeddings.position_embeddings.weights.1^V",
    "transformer.blocks.#.norm1.*": f"{LAYER}.attention.layer_norm.*",
    "transformer.blocks.#.attention.qkv.weight": (
        f"{LAYER}.attention.self_attention.{{query,key,value}}.weight"
    ),
    "transformer.blocks.#.attention.qv.weight": (
        f"{LAYER}.attention.self_attention.{{query_key,value}}.weight"
    ),
    "transformer.blocks.#.attention.out.weight": f"{LAYER}.attention.output.dense.weight",
    "transformer.blocks.#.norm2.*": f"{LAYER}.feed_forward.layer_norm.*",
    "transformer.blocks.#.mlp.0.*": f"{LAYER}.feed_forward.dense.dense.*",
    "transformer.blocks.#.mlp.3.*": f"{LAYER}.feed_forward.output.dense.*",
    "transformer.norm.*": "encoder.layer_norm.*",
}
TOKENS = {"head.linear.weight": "lm_head.decoder.weight", "head.linear.bias": "lm_head.bias"}


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build Reformer from a config, with a kind of head."""
    causal = bool(config.get("is_decoder", False))
    if causal != (kind == "causal_lm") and kind != "none":
        raise ValueError(
            f"{config.origin}: got 'is_decoder': {causal} for a head of the kind {kind}, expected "
            f"{not causal}"
        )
    dim, dropout = config.size("hidden_size"), config.get("hidden_dropout_prob", 0.05)
    eps, kinds = config.get("layer_norm_eps", 1e-12), attention_kinds(config)
    num_heads, head_dim = config.size("num_attention_heads"), config.size("attention_head_size")
    act, hidden_dim = config.activation("hidden_act", "relu"), config.size("feed_forward_size")

    def block(name: str) -> TwoStreamBlock:
        rate = config.get(f"{name}_attention_probs_dropout_prob", 0.0)
        attention: nn.Module = SharedAttention(dim, num_heads, head_dim, dropout=rate)
        if name == "local":
            attention = MultiHeadAttention(
                dim, num_heads, head_dim=head_dim, bias=False, dropout=rate
            )
        mlp = FeedForward(dim, hidden_dim, activation=act, dropout=dropout)
        norms = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        return TwoStreamBlock(attention, mlp, *norms, dropout=dropout)

    tokens = nn.Embedding(config.size("vocab_size"), dim)
    embedding = TwoStreamEmbedding(tokens, positions(config, dim), dropout=dropout)
    transformer = Transformer(2 * dim, 0, 1, norm=lambda width: nn.LayerNorm(width, eps=eps))
    transformer.blocks.extend(map(block, kinds))
    heads: dict[Kind, Callable[[], nn.Module | None]] = {
        "none": lambda: None,
        "masked_lm": lambda: Head(2 * dim, tokens.num_embeddings),
        "causal_lm": lambda: Head(2 * dim, tokens.num_embeddings),
        "classification": lambda: classifier(config, dim),
        "answers": lambda: Head(2 * dim, config.num_labels),
    }
    if tied and kind in ("masked_lm", "causal_lm"):
        raise ValueError(
            f"{config.origin}: got 'tie_word_embeddings': True, expected False, for the head reads "
            "two streams and is twice as wide as the embedding"
        )
    patterns = tuple(pattern(config, kinds, name, causal=causal) for name in kinds)
    return Model(embedding, transformer, heads[kind](), adjacency=PerLayer(patterns))


def attention_kinds(config: Config) -> list[str]:
    """Return "local" or "lsh" for each block.

    Raises:
        ValueError: when a block has another kind of attention.
    """
    kinds: list[str] = config.require("attn_layers")
    if not kinds or not set(kinds) <= {"local", "lsh"}:
        raise ValueError(
            f"{config.origin}: got 'attn_layers': {kinds!r}, expected a list of 'local' and 'lsh'"
        )
    return kinds


def pattern(config: Config, kinds: list[str], name: str, *, causal: bool) -> Pattern:
    """Return the pattern of a block with a kind of attention, "local" or "lsh"."""
    lengths = {kind: config.get(f"{kind}_attn_chunk_length", 64) for kind in kinds}
    before = config.get(f"{name}_num_chunks_before", 1)
    after = config.get(f"{name}_num_chunks_after", 0)
    if before + after > 1:
        raise ValueError(
            f"{config.origin}: got '{name}_num_chunks_before': {before} and "
            f"'{name}_num_chunks_after': {after}, expected a sum of 0 or 1; with two chunks, "
            "others see one of them twice"
        )
    length, shortest = lengths[name], min(lengths.values())
    chunking = Chunking(length, before, after, lcm(*lengths.values()), shortest)
    if name == "local":
        return Chunks(chunking, causal=causal)
    buckets = config.get("num_buckets", None)
    factors = (buckets,) if isinstance(buckets, int) else buckets
    if factors is not None and any(factor % 2 or factor < 2 for factor in factors):
        raise ValueError(
            f"{config.origin}: got 'num_buckets': {buckets!r}, expected even numbers above 0"
        )
    most = 2 * max(int((config.get("max_position_embeddings", 4096) // length) ** 0.5), length)
    return HashedChunks(
        chunking,
        None if factors is None else tuple(factors),
        most,
        causal=causal,
        seed=config.get("hash_seed", 0),
        rounds=config.get("num_hashes", 1),
    )


def positions(config: Config, dim: int) -> nn.Module:
    """Build the learned positions, of two axes or one."""
    if not config.get("axial_pos_embds", True):
        return Positions(dim, config.size("max_position_embeddings"))
    shape, dims = config.require("axial_pos_shape"), config.require("axial_pos_embds_dim")
    if len(shape) != 2 or len(dims) != 2 or sum(dims) != dim:
        raise ValueError(
            f"{config.origin}: got 'axial_pos_shape': {shape!r} and 'axial_pos_embds_dim': "
            f"{dims!r}, expected two numbers each, widths of the sum {dim}"
        )
    return AxialPositions(shape, dims)


def classifier(config: Config, dim: int) -> Head:
    """Build the classification head, which reads the first node."""
    dropout = config.get("classifier_dropout", config.get("hidden_dropout_prob", 0.05))
    layers = nn.Sequential(Dropout(dropout), nn.Linear(2 * dim, dim), nn.Tanh(), Dropout(dropout))
    return Head(dim, config.num_labels, pool="cls", transform=layers)


def stored_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shapes of axial positions, which are stored with an axis of 1."""
    if not config.get("axial_pos_embds", True):
        return {}
    (rows, columns), dims = config.require("axial_pos_shape"), config.require("axial_pos_embds_dim")
    return {"weights.0": (rows, 1, dims[0]), "weights.1": (1, columns, dims[1])}


REFORMER = Family(
    prefix="reformer",
    build=build,
    trunk=TRUNK,
    heads={
        "masked_lm": TOKENS,
        "causal_lm": TOKENS,
        "classification": {
            "head.transform.1.*": "classifier.dense.*",
            "head.linear.*": "classifier.out_proj.*",
        },
        "answers": {"head.linear.*": "qa_outputs.*"},
    },
    architectures={
        "none": "ReformerModel",
        "masked_lm": "ReformerForMaskedLM",
        "causal_lm": "ReformerModelWithLMHead",
        "classification": "ReformerForSequenceClassification",
        "answers": "ReformerForQuestionAnswering",
    },
    stored_shapes=stored_shapes,
)
