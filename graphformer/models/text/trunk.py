"""Shared parts of the text builders: the trunk (embedding and Transformer) and the token head."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

from torch import nn
from typing_extensions import TypedDict, Unpack

from graphformer.deprecated import renamed_keywords
from graphformer.nn import (
    ALiBi,
    Embedding,
    FeedForward,
    GatedFeedForward,
    Head,
    MixtureOfExperts,
    MultiHeadAttention,
    Positions,
    QuickGELU,
    RelativeBias,
    Rotary,
    Transformer,
)
from graphformer.nn.block import ActivationCheckpointing, BlockLayout
from graphformer.options import checked_options

PositionKind: TypeAlias = Literal["learned", "sinusoidal", "rotary", "alibi", "relative", "none"]
"""Positions added to the embedding (the first two), or used within attention (the next three)."""
Norm: TypeAlias = Literal["layer", "rms"]
Activation: TypeAlias = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}


class CommonOptions(TypedDict, total=False):
    """Options of `text_trunk` that all text builders pass on; its docstring describes them."""

    num_heads: int
    hidden_dim: int | None
    num_kv_heads: int | None
    head_dim: int | None
    rotary_base: float
    activation: Activation | None
    num_experts: int
    expert_period: int
    top_k: int
    qkv_bias: bool | None
    qk_norm: bool
    dropout: float
    activation_checkpointing: ActivationCheckpointing


class _InputOptions(TypedDict, total=False):
    """Options for which the encoders have other defaults."""

    max_length: int
    num_token_types: int
    norm_first: bool
    embedding_norm: bool


class _LayerOptions(TypedDict, total=False):
    """Options for which `llama` has other defaults."""

    positions: PositionKind
    norm: Norm
    gated: bool
    bias: bool


class _SizeOptions(TypedDict, total=False):
    """Options that encoder-decoders set by side."""

    depth: int
    bidirectional: bool
    source_dim: int | None
    gated_cross_attention: bool


class _LayoutOptions(TypedDict, total=False):
    """Options of decoders without cross-attention."""

    layout: BlockLayout


class EncoderOptions(CommonOptions, _LayerOptions, _LayoutOptions, total=False):
    """Options of `encoder_trunk` other than its own arguments; see `text_trunk`."""

    dim: int
    depth: int
    source_dim: int | None
    gated_cross_attention: bool


class LlamaOptions(CommonOptions, _InputOptions, _SizeOptions, _LayoutOptions, total=False):
    """Options of `llama` other than its own arguments; see `text_trunk`."""

    dim: int


class Seq2SeqOptions(CommonOptions, _InputOptions, _LayerOptions, total=False):
    """Options of `encoder_decoder` other than its own arguments; see `text_trunk`."""

    norm_eps: float


class WordOptions(Seq2SeqOptions, _SizeOptions, _LayoutOptions, total=False):
    """Options of `word_tagger` other than its own arguments; see `text_trunk`."""


class TrunkOptions(WordOptions, total=False):
    """All options of `text_trunk`, whose docstring describes them."""

    dim: int


class BertOptions(EncoderOptions, _InputOptions, total=False):
    """All options of `encoder_trunk`, whose docstring describes them."""

    norm_eps: float
    bidirectional: bool


def make_norm(name: Norm, eps: float) -> Callable[[int], nn.Module]:
    """Return a constructor `norm(dim)` of the normalization of that name."""
    return partial({"layer": nn.LayerNorm, "rms": nn.RMSNorm}[name], eps=eps)


@renamed_keywords(checkpoint="activation_checkpointing")
def text_trunk(
    vocab_size: int,
    dim: int = 128,
    depth: int = 4,
    num_heads: int = 4,
    *,
    hidden_dim: int | None = None,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    max_length: int = 1024,
    positions: PositionKind = "learned",
    bidirectional: bool = False,
    rotary_base: float = 10_000.0,
    num_token_types: int = 0,
    norm: Norm = "layer",
    norm_eps: float = 1e-5,
    norm_first: bool = True,
    embedding_norm: bool = False,
    activation: Activation | None = None,
    gated: bool = False,
    layout: BlockLayout = "sequential",
    num_experts: int = 0,
    expert_period: int = 1,
    top_k: int = 2,
    bias: bool = True,
    qkv_bias: bool | None = None,
    qk_norm: bool = False,
    dropout: float = 0.0,
    source_dim: int | None = None,
    gated_cross_attention: bool = False,
    activation_checkpointing: ActivationCheckpointing = False,
) -> tuple[Embedding, Transformer]:
    """Build the token embedding and the Transformer of a text model.

    Args:
        vocab_size: number of tokens.
        dim: width C.
        depth: number of blocks.
        num_heads: number of attention heads.
        hidden_dim: hidden width of the feed-forward networks; 4 C by default.
        num_kv_heads: number of key and value heads; `num_heads` by default.
        head_dim: width of a head; `dim / num_heads` by default.
        max_length: number of learned positions, which limits the length of texts.
        positions: "learned" or "sinusoidal", added to the token embedding; "rotary", "alibi" or
            "relative" (T5's), within attention; or "none".
        bidirectional: whether relative positions distinguish earlier from later tokens.
        rotary_base: base of the wavelengths of rotary positions.
        num_token_types: number of segments in `batch.token_types`, as for pairs of texts; 0 for
            none.
        norm: the normalization, "layer" or "rms".
        norm_eps: added to the variance in it.
        norm_first: pre-norm if true, post-norm otherwise.
        embedding_norm: whether the embedding is normalized.
        activation: of the feed-forward networks; "silu" by default if `gated`, "gelu" otherwise.
        gated: whether the feed-forward networks are gated, as in SwiGLU.
        layout: how attention and feed-forward network of a block are connected, see `nn.Block`:
            "sequential", "parallel" as in GPT-NeoX, "parallel_shared_norm" as in PaLM and Phi, or
            "sandwich" as in Gemma 2; the last three need `norm_first`.
        num_experts: number of experts of a mixture in place of a feed-forward network; 0 for none.
        expert_period: every how many blocks one has a mixture: 1 for all, 2 for every second block,
            as in GLaM.
        top_k: number of experts per token.
        bias: whether linear layers have a bias.
        qkv_bias: whether the query, key and value projections have one; as `bias` by default.
        qk_norm: whether queries and keys are normalized per head.
        dropout: dropout probability of embeddings, attention weights and residual branches.
        source_dim: width of an encoder's nodes that every block attends to; None for a model
            without cross-attention.
        gated_cross_attention: whether each block has a gate that is closed at first, as Flamingo's.
        activation_checkpointing: what is recomputed in the backward pass, as in `nn.Transformer`:
            True, "attention", or k for every k-th block.

    Raises:
        ValueError: when `expert_period` is below 1, or the layout needs pre-norm.

    Source: parallel blocks with multi-query heads: Chowdhery et al., 2022 (PaLM), section 2;
    experts in every second block: Du et al., 2022 (GLaM), section 4.
    """
    if expert_period < 1:
        raise ValueError(f"expert_period: got {expert_period}, expected at least 1")
    make = make_norm(norm, norm_eps)
    act = ACTIVATIONS[activation or ("silu" if gated else "gelu")]

    def attention(_: int) -> nn.Module:
        return MultiHeadAttention(
            dim,
            num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            bias=bias if qkv_bias is None else qkv_bias,
            out_bias=bias,
            qk_norm=make if qk_norm else None,
            dropout=dropout,
        )

    def mlp(number: int) -> nn.Module:
        if num_experts and (number + 1) % expert_period == 0:
            sizes: dict[str, Any] = {"num_experts": num_experts, "top_k": top_k, "gated": gated}
            return MixtureOfExperts(dim, hidden_dim, activation=act, **sizes)
        net = GatedFeedForward if gated else FeedForward
        return net(dim, hidden_dim, activation=act, dropout=dropout, bias=bias)

    encodings: dict[str, Callable[[], nn.Module]] = {
        "rotary": lambda: Rotary(head_dim or dim // num_heads, base=rotary_base),
        "alibi": lambda: ALiBi(num_heads),
        "relative": lambda: RelativeBias(num_heads, bidirectional=bidirectional),
    }
    # Modules are built in this order, embedding first: it is the order of the random draws.
    is_added = positions in ("learned", "sinusoidal")
    embedding = Embedding(
        nn.Embedding(vocab_size, dim),
        Positions(dim, max_length, learned=positions == "learned") if is_added else None,
        types=nn.Embedding(num_token_types, dim) if num_token_types else None,
        norm=make(dim) if embedding_norm else None,
        dropout=dropout,
    )
    transformer = Transformer(
        dim,
        depth,
        num_heads,
        num_kv_heads=num_kv_heads,
        norm=make,
        norm_first=norm_first,
        bias=bias,
        dropout=dropout,
        attention_dropout=dropout,
        attention=attention,
        mlp=mlp,
        position_encoding=encodings[positions]() if positions in encodings else None,
        source_dim=source_dim,
        gated_cross_attention=gated_cross_attention,
        layout=layout,
        activation_checkpointing=activation_checkpointing,
    )
    return embedding, transformer


@renamed_keywords(checkpoint="activation_checkpointing")
@checked_options
def encoder_trunk(
    vocab_size: int,
    *,
    max_length: int = 512,
    num_token_types: int = 2,
    norm_first: bool = False,
    norm_eps: float = 1e-12,
    embedding_norm: bool = True,
    bidirectional: bool = True,
    **options: Unpack[EncoderOptions],
) -> tuple[Embedding, Transformer]:
    """Build the trunk of BERT: `text_trunk` with other defaults.

    Source: Devlin et al., 2019, section 3.
    """
    return text_trunk(
        vocab_size,
        max_length=max_length,
        num_token_types=num_token_types,
        norm_first=norm_first,
        norm_eps=norm_eps,
        embedding_norm=embedding_norm,
        bidirectional=bidirectional,
        **options,
    )


def token_head(
    embedding: Embedding, *, tied: bool, bias: bool = False, transform: nn.Module | None = None
) -> Head:
    """Build a head with a logit per token, whose weight is the embedding's if `tied`."""
    tokens = token_embedding(embedding)
    head = Head(tokens.embedding_dim, tokens.num_embeddings, bias=bias, transform=transform)
    if tied:
        head.linear.weight = tokens.weight
    return head


def token_embedding(embedding: nn.Module) -> nn.Embedding:
    """Return the token embedding of a model's `Embedding`."""
    features = getattr(embedding, "features", None)
    assert isinstance(features, nn.Embedding)
    return features
