"""Recurrent baselines from torch's cells: a language model, and seq2seq with attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from graphformer.adjacency import Adjacency, complete
from graphformer.nn import Head
from graphformer.ops import gatv2_attention
from graphformer.patterns import lengths
from graphformer.recorded import recorded

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike
    from graphformer.patterns import AdjacencyLike

State: TypeAlias = Tensor | tuple[Tensor, Tensor]
"""The hidden state [B, C]; of an LSTM the pair of it and the cell state."""
Cell: TypeAlias = Literal["rnn", "gru", "lstm"]
STACKS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
CELLS: dict[str, Callable[..., nn.RNNCellBase]] = {
    "rnn": nn.RNNCell,
    "gru": nn.GRUCell,
    "lstm": nn.LSTMCell,
}


class RecurrentModel(nn.Module):
    """Embedding, recurrent layers, head: h_t = f(h_{t-1}, x_t) along each sample.

    Args:
        tokens: `batch.x` to [N, C].
        layers: torch's recurrent layers, with `batch_first`.
        head: nodes and the batch to outputs; with None, the outputs are the nodes.
        dropout: dropout probability before and after the layers.
    """

    def __init__(
        self,
        tokens: nn.Module,
        layers: nn.RNNBase,
        head: nn.Module | None = None,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tokens, self.layers, self.head = tokens, layers, head
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: BatchLike, adjacency: AdjacencyLike | None = None) -> Tensor:
        """Return outputs [N, K]; each depends on all nodes before, and `adjacency` is ignored."""
        x = self.dropout(self.tokens(batch.x))
        x = self.dropout(run_layers(self.layers, x, lengths(batch)))
        return x if self.head is None else self.head(x, batch)


@recorded
def recurrent_language_model(
    vocab_size: int,
    dim: int = 128,
    depth: int = 2,
    *,
    cell: Cell = "lstm",
    tied: bool = True,
    dropout: float = 0.0,
) -> RecurrentModel:
    """Build a recurrent language model, as a baseline for `language_model`.

    Args:
        vocab_size: number of tokens K.
        dim: width C of the embedding and the states.
        depth: number of layers.
        cell: "rnn" (Elman's), "gru" or "lstm".
        tied: share the token embedding with the head.
        dropout: dropout probability after the embedding, between layers and before the head.

    Returns:
        A model from token ids [N] to logits [N, K].

    Source: Mikolov et al., 2010; Zaremba et al., 2014.
    """
    layers = STACKS[cell](dim, dim, depth, batch_first=True, dropout=dropout if depth > 1 else 0.0)
    tokens, head = nn.Embedding(vocab_size, dim), Head(dim, vocab_size, bias=False)
    nn.init.normal_(tokens.weight, std=0.1)
    if tied:
        head.linear.weight = tokens.weight
    return RecurrentModel(tokens, layers, head, dropout=dropout)


class AttentiveDecoder(nn.Module):
    """A recurrent decoder with additive attention to its source before each step.

    s_t = cell([y_{t-1}, c_t], s_{t-1}), c_t = sum_j a_tj h_j,
    a_t = softmax_j(w . act(W s_{t-1} + U h_j)).

    Args:
        dim: width C of embeddings and states.
        source_dim: width C' of the source's nodes.
        cell: "rnn", "gru" or "lstm".

    Source: Bahdanau et al., 2015, section 3.1, with LeakyReLU for tanh.
    """

    def __init__(self, dim: int, source_dim: int, *, cell: Cell = "gru") -> None:
        super().__init__()
        self.first = nn.Linear(source_dim, dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(source_dim, dim, bias=False)
        self.score = nn.Parameter(torch.randn(1, dim) * dim**-0.5)
        self.cell = CELLS[cell](dim + source_dim, dim)

    def forward(
        self,
        x: Tensor,
        sizes: Sequence[int],
        source: Tensor,
        source_sizes: Sequence[int],
        *,
        weights: list[Tensor] | None = None,
    ) -> Tensor:
        """Return states and contexts of the targets, [M, C + C'].

        Args:
            x: the embedded tokens before each target, [M, C].
            sizes: number of targets of each sample.
            source: the encoder's nodes, [N, C'].
            source_sizes: number of nodes of each sample.
            weights: a list that receives the attention weights of each sample, [m, n].
        """
        # Longest sample first: the samples that still have targets are always the first ones.
        order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
        targets = [x.split(list(sizes))[i] for i in order]
        nodes = [source.split(list(source_sizes))[i] for i in order]
        state = self._initial_state(nodes)
        values = torch.cat(nodes)
        keys = self.key(values)
        outputs: list[list[Tensor]] = [[] for _ in order]
        attention: list[list[Tensor]] = [[] for _ in order]
        for t in range(max(sizes, default=0)):
            count = sum(size > t for size in sizes)
            state = _first_rows(state, count)
            lengths_left = [len(part) for part in nodes[:count]]
            across, rows = complete([1] * count, lengths_left), slice(sum(lengths_left))
            context, shares = self._attend(
                _hidden(state), keys[rows], values[rows], across, weights is not None
            )
            if shares is not None:
                for row, share in enumerate(shares.detach().split(lengths_left)):
                    attention[row].append(share)
            y = torch.stack([part[t] for part in targets[:count]])
            state = self.cell(torch.cat([y, context], dim=1), state)
            for row, out in enumerate(torch.cat([_hidden(state), context], dim=1)):
                outputs[row].append(out)
        by_sample = dict(zip(order, outputs, strict=True))
        if weights is not None:
            recorded = dict(zip(order, attention, strict=True))
            weights += [torch.stack(recorded[i]) for i in range(len(order))]
        return torch.stack([out for i in range(len(order)) for out in by_sample[i]])

    def _initial_state(self, nodes: list[Tensor]) -> State:
        """Return tanh of a linear map of the mean of each sample's nodes; [B, C]."""
        means = torch.stack([part.mean(0) for part in nodes])
        hidden = self.first(means).tanh()
        return (hidden, torch.zeros_like(hidden)) if isinstance(self.cell, nn.LSTMCell) else hidden

    def _attend(
        self, state: Tensor, keys: Tensor, values: Tensor, across: Adjacency, with_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return contexts [b, C'], and the attention weights [n] if they are requested."""
        q, k, v = (part.unsqueeze(1) for part in (self.query(state), keys, values))
        result = gatv2_attention(q, k, v, self.score, across, return_weights=with_weights)
        if isinstance(result, tuple):
            return result[0].squeeze(1), result[1].squeeze(1)
        return result.squeeze(1), None


class RecurrentSeq2Seq(nn.Module):
    """A bidirectional recurrent encoder and an `AttentiveDecoder`, as `recurrent_seq2seq` builds.

    Batches have the fields that `EncoderDecoder` reads.
    """

    def __init__(
        self, tokens: nn.Embedding, encoder: nn.RNNBase, decoder: AttentiveDecoder, head: Head
    ) -> None:
        super().__init__()
        self.tokens, self.encoder, self.decoder, self.head = tokens, encoder, decoder, head

    def forward(self, batch: BatchLike, adjacency: AdjacencyLike | None = None) -> Tensor:
        """Return logits of the targets, [M, K]; `adjacency` is ignored."""
        source_sizes = tuple(map(int, batch.source_lengths))
        source = run_layers(self.encoder, self.tokens(batch.source), source_sizes)
        x = self.decoder(self.tokens(batch.x), lengths(batch), source, source_sizes)
        return self.head(x, batch)


@recorded
def recurrent_seq2seq(
    vocab_size: int,
    dim: int = 128,
    depth: int = 1,
    *,
    cell: Cell = "gru",
    dropout: float = 0.0,
) -> RecurrentSeq2Seq:
    """Build recurrent seq2seq with attention, as a baseline for `encoder_decoder`.

    Args:
        vocab_size: number of tokens K, the same on both sides.
        dim: width C of embeddings and states.
        depth: number of layers of the encoder.
        cell: "rnn", "gru" or "lstm".
        dropout: dropout probability between layers of the encoder.

    Returns:
        A model from source ids [N] and target ids [M] to logits [M, K].

    Source: Bahdanau et al., 2015.
    """
    tokens = nn.Embedding(vocab_size, dim)
    nn.init.normal_(tokens.weight, std=0.1)
    layers = STACKS[cell](
        dim,
        dim,
        depth,
        batch_first=True,
        bidirectional=True,
        dropout=dropout if depth > 1 else 0.0,
    )
    decoder = AttentiveDecoder(dim, 2 * dim, cell=cell)
    return RecurrentSeq2Seq(tokens, layers, decoder, Head(3 * dim, vocab_size))


def run_layers(layers: nn.RNNBase, x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Run recurrent layers along each sample, x [N, C] packed end to end -> [N, C'].

    Raises:
        ValueError: when a sample is empty.
    """
    if 0 in sizes:
        raise ValueError(
            "lengths: got an empty sample, expected at least one node in each for recurrent layers"
        )
    if len(set(sizes)) == 1:  # a view, which needs no sorting
        return layers(x.unflatten(0, (len(sizes), sizes[0])))[0].flatten(0, 1)
    packed, _ = layers(pack_sequence(x.split(list(sizes)), enforce_sorted=False))
    return torch.cat(unpack_sequence(packed))


def _hidden(state: State) -> Tensor:
    """Return the hidden state of a state."""
    return state[0] if isinstance(state, tuple) else state


def _first_rows(state: State, count: int) -> State:
    """Return the state of the first `count` samples."""
    if isinstance(state, tuple):
        return state[0][:count], state[1][:count]
    return state[:count]
