"""Decoders: logits of the next tokens, recomputed from whole texts or with a key-value cache."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from graphformer.adjacency import Adjacency, causal, complete
from graphformer.data.batch import Batch, pack_tokens
from graphformer.models.base import Patterns
from graphformer.models.generation.causal_patterns import self_attention_cache
from graphformer.models.generation.compiled_step import CompiledStep
from graphformer.models.generation.encoder_output import CrossAttention, EncoderOutput
from graphformer.nn import KVCache
from graphformer.nn.options import BlockCache
from graphformer.patterns import Pattern

if TYPE_CHECKING:
    from graphformer.models.protocols import CachedModel, TokenNetwork


class Decoder(Protocol):
    """B texts that grow by one token per step."""

    def start(self) -> Tensor:
        """Return the logits after the prompts, [B, K]."""

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each text, int64 [B]; return the logits after it, [B, K]."""

    def select(self, rows: Tensor) -> None:
        """Keep the texts `rows`, int64 [B'], which may repeat."""


class SpeculativeDecoder(Decoder, Protocol):
    """One text that grows by several tokens per step, the last of which can be removed again."""

    def max_draft(self) -> int:
        """Return how many draft tokens the next step can append after the first token."""

    def extend(self, tokens: Tensor) -> Tensor:
        """Append tokens, int64 [n]; return the logits after each, [n, K]."""

    def crop(self, count: int) -> None:
        """Remove the last `count` tokens, no more than the last step appended."""


class UncachedDecoder:
    """Runs the network on the whole texts at every step; for any network and pattern.

    Args:
        network: called as `network(batch, adjacency)`, returns logits [N, K].
        texts: token ids of each prompt.
        pattern: for all blocks, or one per block.
        context: the number of last tokens of each text that the network reads; None for all.
        encoder_output: nodes to attend to, for the decoder of an encoder-decoder.
    """

    def __init__(
        self,
        network: TokenNetwork,
        texts: Sequence[list[int]],
        pattern: Patterns,
        *,
        context: int | None = None,
        encoder_output: EncoderOutput | None = None,
    ) -> None:
        self.network, self.pattern, self.context = network, pattern, context
        self.encoder_output = encoder_output
        self.texts = [list(text) for text in texts]
        self.prompt_lengths = list(map(len, texts))
        self.device = next(network.parameters()).device

    def start(self) -> Tensor:
        """Return the logits after the texts, [B, K].

        Raises:
            ValueError: when the network returns another number of rows than there are tokens.
        """
        texts = [text if self.context is None else text[-self.context :] for text in self.texts]
        visible_prompts = [  # the first tokens of a text can be outside of the context
            max(prompt - len(whole) + len(text), 0)
            for prompt, whole, text in zip(self.prompt_lengths, self.texts, texts, strict=True)
        ]
        batch = pack_prompts(texts, visible_prompts, self.device)
        across = _cross_attention(self.encoder_output, batch)
        logits = self.network(batch, _resolve(self.pattern, batch), **across)
        if logits.shape[0] != len(batch.x):
            raise ValueError(
                f"network: got {logits.shape[0]} rows of logits for {len(batch.x)} tokens, "
                "expected one per token; use a head that does not pool"
            )
        return logits[last_nodes(batch)]

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each text, int64 [B]; return the logits after it, [B, K]."""
        for text, token in zip(self.texts, tokens.tolist(), strict=True):
            text.append(token)
        return self.start()

    def select(self, rows: Tensor) -> None:
        """Keep the texts `rows`, int64 [B'], which may repeat."""
        numbers = rows.tolist()
        self.texts = [list(self.texts[row]) for row in numbers]
        self.prompt_lengths = [self.prompt_lengths[row] for row in numbers]
        if self.encoder_output is not None:
            self.encoder_output = self.encoder_output.select(rows)


class CachedDecoder:
    """Runs the model on the new tokens only, with keys and values of the others in a cache.

    Args:
        model: a model whose blocks accept a cache.
        texts: token ids of each prompt; consecutive texts of equal length share a buffer.
        pattern: one with a `self_attention_cache`, or one per block.
        encoder_output: nodes to attend to, for the decoder of an encoder-decoder.
        compiled: computes the steps of one token of one text.

    Raises:
        ValueError: when a pattern cannot be decoded with a cache.
    """

    def __init__(
        self,
        model: CachedModel,
        texts: Sequence[list[int]],
        pattern: Patterns,
        *,
        encoder_output: EncoderOutput | None = None,
        compiled: CompiledStep | None = None,
    ) -> None:
        self.model, self.pattern, self.encoder_output = model, pattern, encoder_output
        self.compiled = compiled
        self.device = next(model.parameters()).device
        lengths = tuple(map(len, texts))
        self.batch = pack_prompts(texts, lengths, self.device)
        self.adjacency: Adjacency | None = None  # of the new nodes, after the first step
        blocks = model.transformer.blocks
        patterns = [pattern] * len(blocks) if isinstance(pattern, Pattern) else pattern
        self.self_caches = [self_attention_cache(each, lengths) for each in patterns]
        self.cross_caches: list[KVCache] = []
        self.caches: Sequence[BlockCache] = self.self_caches
        if encoder_output is not None:
            lengths = encoder_output.lengths
            self.cross_caches = [KVCache(lengths, constant=True) for _ in patterns]
            self.caches = list(zip(self.self_caches, self.cross_caches, strict=True))

    def start(self) -> Tensor:
        """Fill the cache; return the logits after the prompts, [B, K]."""
        batch, last = self.batch, last_nodes(self.batch)
        nodes = self._nodes(_resolve(self.pattern, batch))[last]
        self._new_nodes(pos=batch.pos[last])
        return self._logits(nodes)

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each text, int64 [B]; return the logits after it, [B, K]."""
        self.batch.x = tokens
        self.batch.pos = self.batch.pos + 1
        return self._logits(self._nodes(self.adjacency))

    def max_draft(self) -> int:
        """Return how many draft tokens the next step can append: any number."""
        return sys.maxsize

    def extend(self, tokens: Tensor) -> Tensor:
        """Append tokens to the one text, int64 [n]; return the logits after each, [n, K]."""
        count = len(tokens)
        if count != self.batch.num_nodes:
            self.batch.lengths, self.batch.num_nodes = (count,), count
            self.adjacency = causal(self.batch.lengths)
        self.batch.x = tokens
        self.batch.pos = self.batch.pos[-1] + torch.arange(1, count + 1, device=self.device)
        return self._logits(self._nodes(self.adjacency))

    def crop(self, count: int) -> None:
        """Remove the last `count` tokens of the one text from the cache."""
        for cache in self.self_caches if count else ():
            cache.crop(count)
        self.batch.pos = self.batch.pos[: len(self.batch.pos) - count]

    def select(self, rows: Tensor) -> None:
        """Keep the texts `rows`, int64 [B'], ascending; they may repeat."""
        for cache in (*self.self_caches, *self.cross_caches):
            cache.select(rows)
        if self.encoder_output is not None:
            self.encoder_output = self.encoder_output.select(rows)
        self._new_nodes(pos=self.batch.pos[rows])

    def _nodes(self, adjacency: Adjacency | list[Adjacency] | None) -> Tensor:
        assert adjacency is not None
        x, compiled = self.model.embedding(self.batch), self.compiled
        if compiled is not None and len(x) == 1 and compiled.supports(self.self_caches):
            assert isinstance(adjacency, Adjacency)
            return compiled(x, self.batch.pos, adjacency, self.self_caches)
        return self.model.transformer(
            x,
            adjacency,
            self.batch.pos,
            cache=self.caches,
            **_cross_attention(self.encoder_output, self.batch),
        )

    def _logits(self, nodes: Tensor) -> Tensor:
        return nodes if self.model.head is None else self.model.head(nodes, self.batch)

    def _new_nodes(self, pos: Tensor) -> None:
        """Make the batch of one node per text; the caches hold what else it attends to."""
        count = len(pos)
        self.batch = Batch(pos=pos, lengths=(1,) * count, num_nodes=count)
        self.adjacency = complete(self.batch.lengths)


class WindowedDecoder:
    """Decodes with a cache until a text exceeds the context, and without one afterwards.

    Positions count from the start of the context. Once the context moves, the position of every
    token changes with each step, which invalidates the cached keys and values.

    Args:
        cached: the decoder with a cache.
        texts: token ids of each prompt.
        context: the number of last tokens of each text that the network reads.
    """

    def __init__(self, cached: CachedDecoder, texts: list[list[int]], context: int) -> None:
        self.cached: CachedDecoder | None = cached
        self.uncached = UncachedDecoder(
            cached.model,
            texts,
            cached.pattern,
            context=context,
            encoder_output=cached.encoder_output,
        )
        self.context = context

    def start(self) -> Tensor:
        """Return the logits after the prompts, [B, K]."""
        if self._longest() > self.context:
            self.cached = None
        return self.uncached.start() if self.cached is None else self.cached.start()

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each text, int64 [B]; return the logits after it, [B, K]."""
        if self.cached is None or self._longest() + 1 > self.context:
            self.cached = None
            return self.uncached.step(tokens)
        for text, token in zip(self.uncached.texts, tokens.tolist(), strict=True):
            text.append(token)
        return self.cached.step(tokens)

    def max_draft(self) -> int:
        """Return how many draft tokens fit the context after the next token."""
        return max(self.context - self._longest() - 1, 0)

    def extend(self, tokens: Tensor) -> Tensor:
        """Append tokens to the one text, int64 [n]; return the logits after each, [n, K]."""
        if self.cached is None or len(tokens) > self.context - self._longest():
            return self.step(tokens)
        self.uncached.texts[0].extend(tokens.tolist())
        return self.cached.extend(tokens)

    def crop(self, count: int) -> None:
        """Remove the last `count` tokens of the one text."""
        if count and self.cached is not None:
            del self.uncached.texts[0][-count:]
            self.cached.crop(count)

    def select(self, rows: Tensor) -> None:
        """Keep the texts `rows`, int64 [B'], which may repeat."""
        self.uncached.select(rows)
        if self.cached is not None:
            self.cached.select(rows)

    def _longest(self) -> int:
        return max(map(len, self.uncached.texts))


def pack_prompts(
    texts: Sequence[list[int]], prompt_lengths: Sequence[int], device: torch.device
) -> Batch:
    """Pack texts into a batch, each of them one document with a prefix of `prompt_lengths`."""
    batch = pack_tokens(texts, device=device)
    batch.prefix_lengths, batch.documents = tuple(prompt_lengths), batch.lengths
    return batch


def last_nodes(batch: Batch) -> Tensor:
    """Return the index of the last node of each sample, int64 [B]."""
    ends = torch.tensor(list(accumulate(batch.lengths)), device=batch.x.device)
    return ends - 1


def _cross_attention(output: EncoderOutput | None, batch: Batch) -> CrossAttention:
    return {} if output is None else output.cross_attention(batch.lengths)


def _resolve(pattern: Patterns, batch: Batch) -> Adjacency | list[Adjacency]:
    if isinstance(pattern, Pattern):
        return pattern(batch)
    return [each(batch) for each in pattern]
