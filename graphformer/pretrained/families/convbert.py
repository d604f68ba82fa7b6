"""ConvBERT: half of the heads attend, the other half are convolutions with kernels by content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.models import Model
from graphformer.nn import Dropout, FeedForward
from graphformer.ops import attention
from graphformer.ops.backend import BackendName
from graphformer.ops.offset_bias import default_positions
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.bert import LABELS, SPANS
from graphformer.pretrained.families.electra import CLASSES, MASKED
from graphformer.pretrained.families.electra import TRUNK as ELECTRA_TRUNK
from graphformer.pretrained.families.encoder import encoder_parts, model_with_head
from graphformer.pretrained.families.family import Family, Kind

SELF = "encoder.layer.#.attention.self"
TRUNK = {
    **ELECTRA_TRUNK,
    "transformer.blocks.#.attention.depthwise": f"{SELF}.key_conv_attn_layer.depthwise.weight^V",
    "transformer.blocks.#.attention.span_key.weight": (
        f"{SELF}.key_conv_attn_layer.pointwise.weight^V"
    ),
    "transformer.blocks.#.attention.span_key.bias": f"{SELF}.key_conv_attn_layer.bias^V",
    "transformer.blocks.#.attention.kernel.*": f"{SELF}.conv_kernel_layer.*",
    "transformer.blocks.#.attention.span_value.*": f"{SELF}.conv_out_layer.*",
}


class SpanNeighbors(nn.Module):
    """The nodes around each node in its text, an option of `SpanAttention`.

    Args:
        size: number K of nodes, odd.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, positions: Tensor | None, adjacency: Adjacency) -> dict[str, Tensor]:
        """Return the option `neighbors`, int64 [N, K]; N for a neighbor outside of the text.

        Args:
            positions: of the nodes, [N], consecutive in each text.
            adjacency: N x N.
        """
        if positions is None:
            positions = default_positions(adjacency)[0]
        count = len(positions)
        offsets = torch.arange(self.size, device=positions.device) - self.size // 2
        nodes = torch.arange(count, device=positions.device).unsqueeze(1) + offsets  # [N, K]
        inside = (nodes >= 0) & (nodes < count)
        # Another text has other positions there.
        found = positions[nodes.clamp(0, max(count - 1, 0))] == positions.unsqueeze(1) + offsets
        return {"neighbors": nodes.masked_fill(~(inside & found), count)}


class SpanAttention(nn.Module):
    """ConvBERT's mixed attention: heads over an adjacency beside convolutions over a window.

    The kernel of a convolution at node i is softmax(W (q_i * s_i)) over K entries, for a key s_i of
    the span around i: a depthwise convolution and a linear map. It is attention over a window, with
    weights that depend on the target and its window, but not on the pair.

    Args:
        dim: width C.
        num_heads: number of heads H, and of convolutions.
        size: width K of the window.
        dropout: probability of dropping an attention weight in training.

    Source: Jiang et al., 2020, "ConvBERT", sections 4.2 and 4.3.
    """

    def __init__(self, dim: int, num_heads: int, size: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        width = dim // 2
        self.heads, self.head_dim = [num_heads] * 3, width // num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * width)
        self.depthwise = nn.Parameter(torch.zeros(dim, size))
        self.span_key = nn.Linear(dim, width)
        self.kernel = nn.Linear(width, num_heads * size)
        self.span_value = nn.Linear(dim, width)
        self.out = nn.Linear(dim, dim)

    @overload
    def forward(
        self, x: Tensor, adjacency: Adjacency, *, neighbors: Tensor,
        bias: Tensor | None = None, edge_weight: Tensor | None = None,
        backend: BackendName = "auto", return_weights: Literal[False] = False,
    ) -> Tensor: ...  # fmt: skip
    @overload
    def forward(
        self, x: Tensor, adjacency: Adjacency, *, neighbors: Tensor,
        bias: Tensor | None = None, edge_weight: Tensor | None = None,
        backend: BackendName = "auto", return_weights: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...  # fmt: skip
    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        *,
        neighbors: Tensor,
        bias: Tensor | None = None,
        edge_weight: Tensor | None = None,
        backend: BackendName = "auto",
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return out([heads, convolutions]), [N, C].

        Args:
            x: nodes, [N, C].
            adjacency: of the heads, N x N.
            neighbors: of the convolutions, [N, K], from `SpanNeighbors`.
            bias, edge_weight, backend, return_weights: as in `graphformer.attention`.

        Returns:
            [N, C]; with `return_weights` also the weights of the heads, [E, H].
        """
        q, k, v = self.qkv(x).unflatten(-1, (-1, self.head_dim)).split(self.heads, dim=-2)
        options: dict[str, Any] = {"bias": bias, "edge_weight": edge_weight, "backend": backend}
        rate = self.dropout if self.training else 0.0
        result = attention(
            q, k, v, adjacency, dropout=rate, return_weights=return_weights, **options
        )
        attended, weights = result if isinstance(result, tuple) else (result, None)
        span = torch.einsum("nkc,ck->nc", _gather(x, neighbors), self.depthwise)
        kernel = self.kernel(self.span_key(span) * q.flatten(1))
        kernel = kernel.unflatten(-1, (self.heads[0], -1)).softmax(-1)  # [N, H, K]
        values = _gather(self.span_value(x), neighbors).unflatten(-1, (self.heads[0], -1))
        convolved = torch.einsum("nhk,nkhd->nhd", kernel, values)
        out = self.out(torch.cat([attended, convolved], dim=1).flatten(1))
        return out if weights is None else (out, weights)

    if TYPE_CHECKING:
        __call__ = forward


class GroupedLinear(nn.Module):
    """A linear map of each of G equal parts of the input, x [N, C] -> [N, C'].

    Args:
        in_dim: width C, a multiple of G.
        out_dim: width C', a multiple of G.
        groups: G.
    """

    def __init__(self, in_dim: int, out_dim: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(groups, in_dim // groups, out_dim // groups))
        self.bias = nn.Parameter(torch.zeros(out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of the parts, concatenated, [N, C']."""
        parts = x.unflatten(-1, (len(self.weight), -1))
        return torch.einsum("ngc,gcd->ngd", parts, self.weight).flatten(1) + self.bias


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build ConvBERT from a config, with a kind of head; that of tokens is tied or not."""
    config.check_unset(False, "is_decoder", "add_cross_attention")
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-12)
    width, size = config.get("embedding_size", 768), config.get("conv_kernel_size", 9)
    if size % 2 == 0:
        raise ValueError(f"{config.origin}: got 'conv_kernel_size': {size}, expected an odd number")
    num_heads = num_attention_heads(config)
    act, hidden_dim = config.activation("hidden_act", "gelu"), config.size("intermediate_size")
    dropout, groups = config.get("hidden_dropout_prob", 0.1), config.get("num_groups", 1)
    attention_dropout = config.get("attention_probs_dropout_prob", 0.1)

    def mlp(_: int) -> nn.Module:
        net = FeedForward(dim, hidden_dim, activation=act)
        if groups > 1:
            net[0] = GroupedLinear(dim, hidden_dim, groups)
            net[3] = GroupedLinear(hidden_dim, dim, groups)
        return net

    parts = encoder_parts(
        config,
        dim=dim,
        depth=config.size("num_hidden_layers"),
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        activation=act,
        eps=eps,
        dropout=dropout,
        attention_dropout=attention_dropout,
        embedding_dim=width,
        position_encoding=SpanNeighbors(size),
        attention=lambda _: SpanAttention(dim, num_heads, size, dropout=attention_dropout),
        mlp=mlp,
    )
    last = config.get("classifier_dropout", dropout)
    return model_with_head(
        parts,
        config,
        kind,
        tied,
        transform=nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.LayerNorm(width, eps=eps)),
        pooler=nn.Sequential(Dropout(last), nn.Linear(dim, dim), act(), Dropout(last)),
        dropout=last,
    )


def num_attention_heads(config: Config) -> int:
    """Return the number of heads that attend, and of convolutions: H divided by `head_ratio`."""
    heads = config.size("num_attention_heads") // config.get("head_ratio", 2) or 1
    dim = config.size("hidden_size")
    if dim % (2 * heads):
        raise ValueError(
            f"{config.origin}: got 'num_attention_heads' and 'head_ratio' for {heads} heads beside "
            f"as many convolutions, expected a divisor of half the width {dim}"
        )
    return heads


def stored_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the convolutions, which are stored with further axes."""
    dim, size = config.size("hidden_size"), config.get("conv_kernel_size", 9)
    return {
        "depthwise.weight": (dim, 1, size),
        "pointwise.weight": (dim // 2, dim, 1),
        "key_conv_attn_layer.bias": (dim // 2, 1),
    }


def _gather(x: Tensor, neighbors: Tensor) -> Tensor:
    """Return the neighbors of each node, [N, K, C] of x [N, C]; zeros outside of its text."""
    return torch.cat([x, x.new_zeros(1, x.shape[1])])[neighbors]


CONVBERT = Family(
    prefix="convbert",
    build=build,
    trunk=TRUNK,
    heads={"masked_lm": MASKED, "classification": CLASSES, "tagging": LABELS, "answers": SPANS},
    architectures={
        "none": "ConvBertModel",
        "masked_lm": "ConvBertForMaskedLM",
        "classification": "ConvBertForSequenceClassification",
        "tagging": "ConvBertForTokenClassification",
        "answers": "ConvBertForQuestionAnswering",
    },
    ignored_keys=("embeddings.position_ids",),
    tie_word_embeddings=True,
    stored_shapes=stored_shapes,
)
