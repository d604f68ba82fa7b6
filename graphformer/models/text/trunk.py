"""What the builders of text models share: parts by the names that a YAML file gives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch import nn

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

PositionKind = Literal["learned", "sinusoidal", "rotary", "alibi", "relative", "none"]
"""Where nodes are: added to what they are (the first two), or within attention (the next three)."""
Norm = Literal["layer", "rms"]
Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}


def make_norm(name: Norm, eps: float) -> Callable[[int], nn.Module]:
    """The normalisation of that name, to be built as `norm(dim)`."""
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
    num_experts: int = 0,
    top_k: int = 2,
    bias: bool = True,
    qkv_bias: bool | None = None,
    qk_norm: bool = False,
    dropout: float = 0.0,
    source_dim: int | None = None,
    activation_checkpointing: bool = False,
) -> tuple[Embedding, Transformer]:
    """The embedding of tokens and the Transformer over them, from the names of their parts.

    Args:
        vocab_size: number of tokens.
        dim, depth, num_heads, hidden_dim, num_kv_heads, source_dim, activation_checkpointing: of
            the Transformer.
        head_dim: width of a head; `dim / num_heads` by default.
        max_length: the longest text that learned positions can number.
        positions: "learned" or "sinusoidal", added to the tokens; "rotary", "alibi" or "relative"
            (T5's), within attention; or "none".
        bidirectional: whether T5's positions tell what comes later from what comes earlier.
        rotary_base: of the wavelengths of rotary positions.
        num_token_types: of `batch.token_types`, as for pairs of texts; 0 for none.
        norm, norm_eps: the normalisation, "layer" or "rms" (without means).
        norm_first: pre-norm; else post-norm.
        embedding_norm: whether the embedding is normalised.
        activation: of the feed-forward nets; GELU by default, SiLU with gates.
        gated: whether these have gates, as in SwiGLU.
        num_experts, top_k: a mixture of experts instead, if there are any, and how many serve a
            token.
        bias: whether linear maps have one.
        qkv_bias: whether those to queries, keys and values do, if that is another matter.
        qk_norm: whether each head's queries and keys are normalised.
        dropout: on embeddings, attention weights and residuals.
    """
    make = make_norm(norm, norm_eps)
    act = ACTIVATIONS[activation or ("silu" if gated else "gelu")]

    def attention(number: int) -> nn.Module:
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
        if num_experts:
            sizes: dict[str, Any] = {"num_experts": num_experts, "top_k": top_k, "gated": gated}
            return MixtureOfExperts(dim, hidden_dim, activation=act, **sizes)
        net = GatedFeedForward if gated else FeedForward
        return net(dim, hidden_dim, activation=act, dropout=dropout, bias=bias)

    encodings: dict[str, Callable[[], nn.Module]] = {
        "rotary": lambda: Rotary(head_dim or dim // num_heads, base=rotary_base),
        "alibi": lambda: ALiBi(num_heads),
        "relative": lambda: RelativeBias(num_heads, bidirectional=bidirectional),
    }
    added = positions in ("learned", "sinusoidal")
    embedding = Embedding(
        nn.Embedding(vocab_size, dim),
        Positions(dim, max_length, learned=positions == "learned") if added else None,
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
        activation_checkpointing=activation_checkpointing,
    )
    return embedding, transformer


@renamed_keywords(checkpoint="activation_checkpointing")
def encoder_trunk(
    vocab_size: int,
    *,
    max_length: int = 512,
    num_token_types: int = 2,
    norm_first: bool = False,
    norm_eps: float = 1e-12,
    embedding_norm: bool = True,
    bidirectional: bool = True,
    **parts: Any,
) -> tuple[Embedding, Transformer]:
    """The trunk of BERT: `text_trunk` with other defaults.

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
        **parts,
    )


def token_head(
    embedding: Embedding, *, tied: bool, bias: bool = False, transform: nn.Module | None = None
) -> Head:
    """A head with a logit for every token, whose weights may be those of the embedding."""
    tokens = tokens_of(embedding)
    head = Head(tokens.embedding_dim, tokens.num_embeddings, bias=bias, transform=transform)
    if tied:
        head.linear.weight = tokens.weight
    return head


def tokens_of(embedding: Embedding) -> nn.Embedding:
    """The embedding's table of tokens."""
    assert isinstance(embedding.features, nn.Embedding)
    return embedding.features
