"""Baselines from torch's own recurrent cells: a language model, and seq2seq with attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from graphformer import adjacency as adjacencies
from graphformer.adjacency import Adjacency
from graphformer.nn import Head
from graphformer.ops import gatv2_attention
from graphformer.patterns import lengths

Cell = Literal["rnn", "gru", "lstm"]
STACKS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
CELLS: dict[str, Callable[..., nn.RNNCellBase]] = {
    "rnn": nn.RNNCell,
    "gru": nn.GRUCell,
    "lstm": nn.LSTMCell,
}


class RecurrentModel(nn.Module):
    """Embedding, recurrent layers, head: h_t = f(h_{t-1}, x_t) along each sample.

    Args:
        tokens: makes [N, C] of `batch.x`.
        layers: torch's own, with `batch_first`.
        head: makes answers of the nodes and the batch; None answers with the nodes.
        dropout: probability of dropping a unit before and after the layers.
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

    def forward(self, batch: Any, adjacency: Adjacency | None = None) -> Tensor:
        """Answer for each node, [N, K]; a state hears of all before it, whatever the adjacency."""
        x = self.dropout(self.tokens(batch.x))
        x = self.dropout(run_layers(self.layers, x, lengths(batch)))
        return x if self.head is None else self.head(x, batch)


def recurrent_language_model(
    vocab_size: int,
    dim: int = 128,
    depth: int = 2,
    *,
    cell: Cell = "lstm",
    tied: bool = True,
    dropout: float = 0.0,
) -> RecurrentModel:
    """A language model of recurrent cells, to compare with.

    Args:
        vocab_size: number of tokens K.
        dim: width C of embedding and states.
        depth: number of layers.
        cell: "rnn" (Elman's), "gru" or "lstm".
        tied: share the token embedding with the head.
        dropout: on the embedding, between layers and before the head.

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
    """A recurrent decoder that attends to its source before each step.

    s_t = cell([y_{t-1}, c_t], s_{t-1}) and c_t = sum_j a_tj h_j, where the weights a are those of
    additive attention, w . act(W s_{t-1} + U h_j).

    Args:
        dim: width C of embeddings and states.
        source_dim: width of the source's nodes.
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
        """States and contexts of the targets, [M, C + C'].

        Args:
            x: the embedded tokens before each target, [M, C].
            sizes: targets a sample.
            source: the encoder's nodes, [N, C'].
            source_sizes: nodes a sample.
            weights: gets what each sample's targets attend to, [m, n].
        """
        # Longest first: those that still run are always the first ones.
        order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
        targets = [x.split(list(sizes))[i] for i in order]
        nodes = [source.split(list(source_sizes))[i] for i in order]
        means = torch.stack([part.mean(0) for part in nodes])
        state: Any = self.first(means).tanh()
        state = (state, torch.zeros_like(state)) if isinstance(self.cell, nn.LSTMCell) else state
        values = torch.cat(nodes)
        keys = self.key(values)
        steps: list[list[Tensor]] = [[] for _ in order]
        seen: list[list[Tensor]] = [[] for _ in order]
        for t in range(max(sizes, default=0)):
            count = sum(size > t for size in sizes)
            state = tuple(s[:count] for s in state) if isinstance(state, tuple) else state[:count]
            read = [len(part) for part in nodes[:count]]
            across = adjacencies.complete([1] * count, read)
            own = slice(sum(read))
            context, shares = self._attend(
                _hidden(state), keys[own], values[own], across, weights is not None
            )
            if shares is not None:
                for row, share in enumerate(shares.detach().split(read)):
                    seen[row].append(share)
            y = torch.stack([part[t] for part in targets[:count]])
            state = self.cell(torch.cat([y, context], dim=1), state)
            for row, out in enumerate(torch.cat([_hidden(state), context], dim=1)):
                steps[row].append(out)
        placed = dict(zip(order, steps, strict=True))
        if weights is not None:
            rows = dict(zip(order, seen, strict=True))
            weights += [torch.stack(rows[i]) for i in range(len(order))]
        return torch.stack([out for i in range(len(order)) for out in placed[i]])

    def _attend(
        self, state: Tensor, keys: Tensor, values: Tensor, across: Adjacency, told: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Contexts [b, C'], and, if they are to be told, the weights [n]."""
        q, k, v = (part.unsqueeze(1) for part in (self.query(state), keys, values))
        result = gatv2_attention(q, k, v, self.score, across, return_weights=told)
        if isinstance(result, tuple):
            return result[0].squeeze(1), result[1].squeeze(1)
        return result.squeeze(1), None


class RecurrentSeq2Seq(nn.Module):
    """A bidirectional recurrent encoder and an attentive decoder; batches as `EncoderDecoder`.

    `recurrent_seq2seq` builds it.
    """

    def __init__(
        self, tokens: nn.Embedding, encoder: nn.RNNBase, decoder: AttentiveDecoder, head: Head
    ) -> None:
        super().__init__()
        self.tokens, self.encoder, self.decoder, self.head = tokens, encoder, decoder, head

    def forward(self, batch: Any, adjacency: Adjacency | None = None) -> Tensor:
        """Logits of the targets given those before them, [M, K], whatever the adjacency."""
        read = tuple(map(int, batch.source_lengths))
        source = run_layers(self.encoder, self.tokens(batch.source), read)
        x = self.decoder(self.tokens(batch.x), lengths(batch), source, read)
        return self.head(x, batch)


def recurrent_seq2seq(
    vocab_size: int,
    dim: int = 128,
    depth: int = 1,
    *,
    cell: Cell = "gru",
    dropout: float = 0.0,
) -> RecurrentSeq2Seq:
    """Seq2seq with attention, to compare with `encoder_decoder`.

    Args:
        vocab_size: number of tokens K, the same on both sides.
        dim: width C of embeddings and states.
        depth: number of the encoder's layers.
        cell: "rnn", "gru" or "lstm".
        dropout: between the encoder's layers.

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
    """Recurrent layers along each sample, x [N, C] packed end to end -> [N, C'].

    Raises ValueError for an empty sample.
    """
    if 0 in sizes:
        raise ValueError("recurrent layers need a node in every sample, got an empty one")
    if len(set(sizes)) == 1:  # no need to sort
        return layers(x.unflatten(0, (len(sizes), sizes[0])))[0].flatten(0, 1)
    packed, _ = layers(pack_sequence(x.split(list(sizes)), enforce_sorted=False))
    return torch.cat(unpack_sequence(packed))


def _hidden(state: Any) -> Tensor:
    """What a state shows: of an LSTM's pair the first."""
    return state[0] if isinstance(state, tuple) else state
