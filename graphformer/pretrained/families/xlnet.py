"""XLNet: attention with relative positions, over the complete graph or a triangle."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.models import Model
from graphformer.models.text.trunk import token_head
from graphformer.nn import Dropout, Embedding, FeedForward, Head, Pooling, Transformer
from graphformer.ops import attention
from graphformer.ops.backend import BackendName
from graphformer.ops.offset_bias import default_positions
from graphformer.patterns import Causal, Complete
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.family import Conversion, Family, Kind

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

TRUNK = {
    "embedding.features.weight": "word_embedding.weight",
    "embedding.mask": "mask_emb",
    "transformer.blocks.#.attention.qkv.weight": "layer.#.rel_attn.{q,k,v}",
    "transformer.blocks.#.attention.position.weight": "layer.#.rel_attn.r",
    "transformer.blocks.#.attention.out.weight": "layer.#.rel_attn.o",
    "transformer.blocks.#.attention.content_bias": "layer.#.rel_attn.r_w_bias",
    "transformer.blocks.#.attention.position_bias": "layer.#.rel_attn.r_r_bias",
    "transformer.blocks.#.attention.segment_bias": "layer.#.rel_attn.r_s_bias",
    "transformer.blocks.#.attention.segment": "layer.#.rel_attn.seg_embed",
    "transformer.blocks.#.norm1.*": "layer.#.rel_attn.layer_norm.*",
    "transformer.blocks.#.mlp.0.*": "layer.#.ff.layer_1.*",
    "transformer.blocks.#.mlp.3.*": "layer.#.ff.layer_2.*",
    "transformer.blocks.#.norm2.*": "layer.#.ff.layer_norm.*",
}
HEADS: dict[Kind, dict[str, str]] = {
    "masked_lm": {"head.linear.*": "lm_loss.*"},
    "classification": {
        "head.transform.0.*": "sequence_summary.summary.*",
        "head.linear.*": "logits_proj.*",
    },
    "tagging": {"head.linear.*": "classifier.*"},
    "answers": {"head.linear.*": "qa_outputs.*"},
}
MAPS = ("q", "k", "v", "r", "o")
"""Linear maps that are stored as [C, H, D]."""


class RelativeOffsets(nn.Module):
    """The sinusoids of the distances of all edges, options of `RelativeAttention`.

    Args:
        dim: width C.
        max_distance: larger distances count as this one; None for no limit.
        dropout: probability of dropping a number of a sinusoid in training.

    Source: Dai et al., 2019, "Transformer-XL", section 3.3.
    """

    def __init__(self, dim: int, *, max_distance: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim, self.max_distance = dim, max_distance
        self.dropout = Dropout(dropout)

    def forward(self, positions: Tensor | None, adjacency: Adjacency) -> dict[str, Tensor]:
        """Return `sinusoids` [R, C] of R distances, and `distance` [E], the row of each edge.

        Args:
            positions: of the nodes, [N]; by default the index of each in its sample.
            adjacency: N x N.
        """
        if positions is None:
            positions = default_positions(adjacency)[0]
        source, target = adjacency.edge_index
        offset = positions[target] - positions[source]
        if self.max_distance is not None:
            offset = offset.clamp(-self.max_distance, self.max_distance)
        distances, rows = offset.unique(return_inverse=True)
        exponent = torch.arange(0, self.dim, 2, device=offset.device).float() / self.dim
        angle = distances.float().unsqueeze(1) / 10_000**exponent
        sinusoids = torch.cat([angle.sin(), angle.cos()], dim=-1)
        return {"sinusoids": self.dropout(sinusoids), "distance": rows}


class RelativeAttention(nn.Module):
    """The attention of Transformer-XL and XLNet, whose logits include the distance of nodes.

    The logit of an edge from j to i is (q_i + u) . k_j + (q_i + w) . W r_(i - j), for sinusoids r
    of the distance and vectors u and w of the head.

    Args:
        dim: width C.
        num_heads: H.
        head_dim: D.
        dropout: probability of dropping an attention weight in training.

    Source: Dai et al., 2019, "Transformer-XL", section 3.3.
    """

    def __init__(self, dim: int, num_heads: int, head_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        width = num_heads * head_dim
        self.heads, self.head_dim, self.dropout = [num_heads] * 3, head_dim, dropout
        self.qkv = nn.Linear(dim, 3 * width, bias=False)
        self.position = nn.Linear(dim, width, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(num_heads, head_dim))
        self.position_bias = nn.Parameter(torch.zeros(num_heads, head_dim))
        # Of two segments, which are stored but not used: see `SingleSegment`.
        self.segment_bias = nn.Parameter(torch.zeros(num_heads, head_dim))
        self.segment = nn.Parameter(torch.zeros(2, num_heads, head_dim))
        self.out = nn.Linear(width, dim, bias=False)

    @overload
    def forward(
        self, x: Tensor, adjacency: Adjacency, *, sinusoids: Tensor, distance: Tensor,
        edge_weight: Tensor | None = None, backend: BackendName = "auto",
        return_weights: Literal[False] = False,
    ) -> Tensor: ...  # fmt: skip
    @overload
    def forward(
        self, x: Tensor, adjacency: Adjacency, *, sinusoids: Tensor, distance: Tensor,
        edge_weight: Tensor | None = None, backend: BackendName = "auto",
        return_weights: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...  # fmt: skip
    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        *,
        sinusoids: Tensor,
        distance: Tensor,
        edge_weight: Tensor | None = None,
        backend: BackendName = "auto",
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the attention output of nodes x [N, C].

        Args:
            x: nodes.
            adjacency: N x N.
            sinusoids, distance: from `RelativeOffsets`.
            edge_weight, backend, return_weights: as in `graphformer.attention`.

        Returns:
            [N, C]; with `return_weights` also the weights, [E, H].
        """
        q, k, v = self.qkv(x).unflatten(-1, (-1, self.head_dim)).split(self.heads, dim=-2)
        r = self.position(sinusoids.to(x.dtype)).unflatten(-1, (-1, self.head_dim))  # [R, H, D]
        by_distance = torch.einsum("nhd,rhd->nrh", q + self.position_bias, r)  # [N, R, H]
        scale = self.head_dim**-0.5
        bias = scale * by_distance[adjacency.edge_index[1], distance]  # [E, H]
        options: dict[str, Any] = {"edge_weight": edge_weight, "backend": backend}
        result = attention(
            q + self.content_bias,
            k,
            v,
            adjacency,
            bias=bias,
            scale=scale,
            dropout=self.dropout if self.training else 0.0,
            return_weights=return_weights,
            **options,
        )
        out, weights = result if isinstance(result, tuple) else (result, None)
        out = self.out(out.flatten(1))
        return out if weights is None else (out, weights)

    if TYPE_CHECKING:
        __call__ = forward


class SingleSegment(Embedding):
    """XLNet's token embedding, of texts of one segment.

    Args:
        features: the token embedding, of width C.
        dropout: probability of dropping a unit of the output.
    """

    def __init__(self, features: nn.Embedding, *, dropout: float) -> None:
        super().__init__(features, dropout=dropout)
        # The input of the query stream in permuted language modelling.
        self.mask = nn.Parameter(torch.zeros(1, 1, features.embedding_dim))

    def forward(self, batch: BatchLike) -> Tensor:
        """Return the embedding of `batch.x`, [N, C], and that of queries at `batch.query_mask`.

        Raises:
            ValueError: when nodes of one batch differ in `token_types`.
        """
        types = getattr(batch, "token_types", None)
        if types is not None and bool((types != types[:1]).any()):
            raise ValueError(
                "token_types: got several segments, expected one, for XLNet's embedding of "
                "segments is not supported; leave token_types out"
            )
        is_query = getattr(batch, "query_mask", None)
        if is_query is None:
            return super().forward(batch)
        x = torch.where(is_query.unsqueeze(1), self.mask[0], self.features(batch.x))
        return self.dropout(x)


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build XLNet from a config, with a kind of head; that of tokens is tied or not."""
    config.check_unset(False, "bi_data", "same_length")
    config.check_unset("bi", "attn_type", accepted=("uni",))
    dim, dropout = config.size("d_model", "hidden_size"), config.get("dropout", 0.1)
    eps, act = config.get("layer_norm_eps", 1e-12), config.activation("ff_activation", "gelu")
    num_heads = config.num_heads(dim, "n_head", "num_attention_heads")
    width, hidden_dim = config.get("d_head", dim // num_heads), config.size("d_inner")
    limit = config.get("clamp_len", -1)
    embedding = SingleSegment(
        nn.Embedding(config.size("vocab_size", "n_token"), dim), dropout=dropout
    )
    transformer = Transformer(
        dim,
        config.size("n_layer", "num_hidden_layers"),
        num_heads,
        norm=lambda size: nn.LayerNorm(size, eps=eps),
        norm_first=False,
        dropout=dropout,
        attention=lambda _: RelativeAttention(dim, num_heads, width, dropout=dropout),
        mlp=lambda _: FeedForward(dim, hidden_dim, activation=act, dropout=dropout),
        position_encoding=RelativeOffsets(
            dim, max_distance=limit if limit > 0 else None, dropout=dropout
        ),
    )
    heads: dict[Kind, Callable[[], nn.Module | None]] = {
        "none": lambda: None,
        "embedding": lambda: Pooling("mean"),
        "masked_lm": lambda: token_head(embedding, tied=tied, bias=True),
        "classification": lambda: summary(config, dim),
        "tagging": lambda: Head(dim, config.num_labels),
        "answers": lambda: Head(dim, config.num_labels),
    }
    pattern = Causal() if config.get("attn_type", "bi") == "uni" else Complete()
    return Model(embedding, transformer, heads[kind](), adjacency=pattern)


def summary(config: Config, dim: int) -> Head:
    """Build the classification head, which reads the last node."""
    config.check_unset("last", "summary_type")
    config.check_unset(True, "summary_use_proj")
    act = config.activation("summary_activation", "tanh")
    dropout = Dropout(config.get("summary_last_dropout", 0.1))
    layers = nn.Sequential(nn.Linear(dim, dim), act(), dropout)
    return Head(dim, config.num_labels, pool="last", transform=layers)


def map_keys(keys: Collection[str]) -> list[str]:
    """Return the keys of the maps that are stored as [C, H, D]."""
    return [key for key in keys if ".rel_attn." in key and key.rpartition(".")[2] in MAPS]


def to_matrices(_: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return maps [C, H, D] as weights of linear layers: [H D, C], or [C, H D] of the output."""
    matrices = {key: tensor.flatten(1) for key, tensor in tensors.items()}
    return {k: m if k.endswith(".o") else m.T.contiguous() for k, m in matrices.items()}


def from_matrices(tensors: dict[str, Tensor], _: str) -> dict[str, Tensor]:
    """Return tensors in the stored form, maps as [C, H, D]."""
    stored = dict(tensors)
    for key in map_keys(tensors):
        heads = tensors[f"{key.rpartition('.')[0]}.r_w_bias"].shape
        matrix = tensors[key] if key.endswith(".o") else tensors[key].T
        stored[key] = matrix.unflatten(1, tuple(heads)).contiguous()
    return stored


XLNET = Family(
    prefix="transformer",
    build=build,
    trunk=TRUNK,
    heads=HEADS,
    architectures={
        "none": "XLNetModel",
        "masked_lm": "XLNetLMHeadModel",
        "classification": "XLNetForSequenceClassification",
        "tagging": "XLNetForTokenClassification",
        "answers": "XLNetForQuestionAnsweringSimple",
    },
    conversion=Conversion(map_keys, to_matrices, from_matrices),
    tie_word_embeddings=True,
)
