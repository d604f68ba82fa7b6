"""What comes next, asked again and again: with a cache one node a step, or on the whole text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import accumulate
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, cast
from zlib import crc32

import torch
from torch import Tensor, nn

from graphformer import adjacency as adjacencies
from graphformer.models.generation.prompts import max_length
from graphformer.nn import KVCache
from graphformer.patterns import (
    Causal,
    Documents,
    Intersection,
    Pattern,
    PerLayer,
    Prefix,
    Window,
)

if TYPE_CHECKING:
    from graphformer.models.protocols import CachedModel

Patterns = Pattern | Sequence[Pattern]
_PROBE = 257  # tokens of a text whose edges tell whether a pattern looks ahead


class Decoder(Protocol):
    """Texts that grow by a token each a step."""

    def start(self) -> Tensor:
        """Logits of the tokens that follow the prompts, [B, K]."""

    def step(self, tokens: Tensor) -> Tensor:
        """Add a token to each text, int64 [B]; the logits of what follows, [B, K]."""

    def select(self, rows: Tensor) -> None:
        """Go on with some of the texts, or with one as several: their numbers, int64 [B']."""


class ExtendableDecoder(Decoder, Protocol):
    """One text that grows by several tokens a step, of which the last can be taken back."""

    def room(self) -> int:
        """How many tokens the next step can add besides the first."""

    def extend(self, tokens: Tensor) -> Tensor:
        """Add tokens, int64 [n]; the logits of what follows each, [n, K]."""

    def drop(self, count: int) -> None:
        """Take back some of the tokens that the last step added."""


class EncoderOutput:
    """What an encoder has read for each text.

    Args:
        nodes: what it made of it, [N, C].
        lengths: nodes a text.
        given: what it was given, [N] or [N, F]; tells texts apart, whose draws depend on it.
    """

    def __init__(self, nodes: Tensor, lengths: Sequence[int], given: Tensor | None = None) -> None:
        self.nodes, self.lengths = nodes, tuple(lengths)
        self.marks = [0] * len(self.lengths)
        if given is not None:
            rows = given.detach().cpu().split(self.lengths)
            self.marks = [crc32(row.numpy().tobytes()) for row in rows]

    def options(self, lengths: Sequence[int]) -> dict[str, Any]:
        """The options of a Transformer whose texts have these lengths."""
        across = adjacencies.complete(lengths, self.lengths)
        return {"source": self.nodes, "source_adjacency": across}

    def select(self, rows: Tensor) -> EncoderOutput:
        """The nodes of some texts."""
        parts, chosen = self.nodes.split(self.lengths), rows.tolist()
        kept = EncoderOutput(
            torch.cat([parts[i] for i in chosen]), [self.lengths[i] for i in chosen]
        )
        kept.marks = [self.marks[i] for i in chosen]
        return kept


class UncachedDecoder:
    """Decoding that runs the network on the whole texts at every step: any network and pattern.

    Args:
        network: `network(batch, adjacency)` gives logits a node, [N, K].
        texts: the token ids of each.
        pattern: who attends to whom, or one pattern a block.
        context: how many tokens of each text the network looks at, the last ones; None for all.
        source: what an encoder has read.
        prompt_lengths: those of the prompts, if some tokens of the texts are no longer of them.
    """

    def __init__(
        self,
        network: nn.Module,
        texts: Sequence[list[int]],
        pattern: Patterns,
        *,
        context: int | None = None,
        source: EncoderOutput | None = None,
        prompt_lengths: Sequence[int] | None = None,
    ) -> None:
        self.network, self.pattern, self.context, self.source = network, pattern, context, source
        self.texts = [list(text) for text in texts]
        self.prompts = list(map(len, texts)) if prompt_lengths is None else list(prompt_lengths)
        self.device = next(network.parameters()).device

    def start(self) -> Tensor:
        """Logits of the tokens that follow, [B, K]."""
        texts = [text if self.context is None else text[-self.context :] for text in self.texts]
        prefixes = [
            max(prompt - len(whole) + len(text), 0)
            for prompt, whole, text in zip(self.prompts, self.texts, texts, strict=True)
        ]
        batch = text_batch(texts, prefixes, self.device)
        options = {} if self.source is None else self.source.options(batch.lengths)
        logits = self.network(batch, _adjacency(self.pattern, batch), **options)
        if logits.shape[0] != len(batch.x):
            raise ValueError(
                f"generate needs logits for each of the {len(batch.x)} tokens, but the network "
                f"gave {logits.shape[0]} rows: use a head that does not pool"
            )
        return logits[last_rows(batch)]

    def step(self, tokens: Tensor) -> Tensor:
        """Add a token to each text, int64 [B]; the logits of what follows, [B, K]."""
        for text, token in zip(self.texts, tokens.tolist(), strict=True):
            text.append(token)
        return self.start()

    def select(self, rows: Tensor) -> None:
        """Go on with some of the texts, or with one as several."""
        chosen = rows.tolist()
        self.texts = [list(self.texts[row]) for row in chosen]
        self.prompts = [self.prompts[row] for row in chosen]
        self.source = None if self.source is None else self.source.select(rows)


class CachedDecoder:
    """Decoding that keeps keys and values, and runs the model on the new tokens alone.

    Args:
        model: whose blocks take a cache.
        texts: the token ids of each; neighbours of one length are decoded together.
        pattern: one that `reach` knows, or one a block.
        source: what an encoder has read.
    """

    def __init__(
        self,
        model: CachedModel,
        texts: Sequence[list[int]],
        pattern: Patterns,
        *,
        source: EncoderOutput | None = None,
    ) -> None:
        self.model, self.pattern, self.source = model, pattern, source
        self.device = next(model.parameters()).device
        lengths = tuple(map(len, texts))
        self.batch = text_batch(texts, lengths, self.device)
        self.adjacency: Any = None  # of the new nodes
        blocks = model.transformer.blocks
        patterns = [pattern] * len(blocks) if isinstance(pattern, Pattern) else pattern
        self.cache: list[Any] = []
        for each in patterns:
            own = KVCache(lengths, window=reach(each))
            if source is None:
                self.cache.append(own)
            else:
                self.cache.append((own, KVCache(source.lengths, constant=True)))

    def start(self) -> Tensor:
        """Logits of the tokens that follow the prompts, [B, K]; fills the cache."""
        batch, last = self.batch, last_rows(self.batch)
        nodes = self._nodes(_adjacency(self.pattern, batch))[last]
        self.batch = SimpleNamespace(pos=batch.pos[last])
        self._resize(len(last))
        return self._logits(nodes)

    def step(self, tokens: Tensor) -> Tensor:
        """Add a token to each text, int64 [B]; the logits of what follows, [B, K]."""
        self.batch.x = tokens
        self.batch.pos = self.batch.pos + 1
        return self._logits(self._nodes(self.adjacency))

    def room(self) -> int:
        """How many tokens the next step can add besides the first."""
        return sys.maxsize

    def extend(self, tokens: Tensor) -> Tensor:
        """Add tokens to the one text, int64 [n]; the logits of what follows each, [n, K]."""
        count = len(tokens)
        if count != self.batch.num_nodes:
            self.batch.lengths, self.batch.num_nodes = (count,), count
            self.adjacency = adjacencies.causal(self.batch.lengths)
        self.batch.x = tokens
        self.batch.pos = self.batch.pos[-1] + torch.arange(1, count + 1, device=self.device)
        return self._logits(self._nodes(self.adjacency))

    def drop(self, count: int) -> None:
        """Take back some of the tokens that the last step added."""
        for kept in self.cache if count else ():
            (kept[0] if isinstance(kept, tuple) else kept).crop(count)
        self.batch.pos = self.batch.pos[: len(self.batch.pos) - count]

    def select(self, rows: Tensor) -> None:
        """Go on with some of the texts, in order, or with one as several."""
        for kept in self.cache:
            for part in kept if isinstance(kept, tuple) else (kept,):
                part.select(rows)
        self.batch.pos = self.batch.pos[rows]
        self.source = None if self.source is None else self.source.select(rows)
        self._resize(len(rows))

    def _nodes(self, adjacency: Any) -> Tensor:
        model, batch = self.model, self.batch
        options = {} if self.source is None else self.source.options(batch.lengths)
        x = model.embedding(batch)
        return model.transformer(x, adjacency, batch.pos, cache=self.cache, **options)

    def _logits(self, nodes: Tensor) -> Tensor:
        return nodes if self.model.head is None else self.model.head(nodes, self.batch)

    def _resize(self, count: int) -> None:
        """One node a text; the caches know what else it attends to."""
        self.batch.lengths, self.batch.num_nodes = (1,) * count, count
        self.adjacency = adjacencies.complete(self.batch.lengths)


class WindowedDecoder:
    """Decoding with a cache as long as no text is longer than the context, then without.

    A token's place is counted from the context's start, which then moves at every step: nothing
    that was kept would hold.
    """

    def __init__(self, cached: CachedDecoder, texts: list[list[int]], context: int) -> None:
        self.cached: CachedDecoder | None = cached
        self.whole = UncachedDecoder(
            cast(nn.Module, cached.model),
            texts,
            cached.pattern,
            context=context,
            source=cached.source,
        )
        self.context = context

    def start(self) -> Tensor:
        """Logits of the tokens that follow the prompts, [B, K]."""
        if max(map(len, self.whole.texts)) > self.context:
            self.cached = None
        return self.whole.start() if self.cached is None else self.cached.start()

    def step(self, tokens: Tensor) -> Tensor:
        """Add a token to each text, int64 [B]; the logits of what follows, [B, K]."""
        longest = max(map(len, self.whole.texts)) + 1
        if self.cached is None or longest > self.context:
            self.cached = None
            return self.whole.step(tokens)
        for text, token in zip(self.whole.texts, tokens.tolist(), strict=True):
            text.append(token)
        return self.cached.step(tokens)

    def room(self) -> int:
        """How many tokens the next step can add besides the first."""
        return max(self.context - len(self.whole.texts[0]) - 1, 0)

    def extend(self, tokens: Tensor) -> Tensor:
        """Add tokens to the one text, int64 [n]; the logits of what follows each, [n, K]."""
        if self.cached is None or len(tokens) > self.context - len(self.whole.texts[0]):
            return self.step(tokens)
        self.whole.texts[0].extend(tokens.tolist())
        return self.cached.extend(tokens)

    def drop(self, count: int) -> None:
        """Take back some of the tokens that the last step added."""
        if count and self.cached is not None:
            del self.whole.texts[0][-count:]
            self.cached.drop(count)

    def select(self, rows: Tensor) -> None:
        """Go on with some of the texts, or with one as several."""
        self.whole.select(rows)
        if self.cached is not None:
            self.cached.select(rows)


def reach(pattern: Pattern) -> int | None:
    """How many of the last tokens a new one attends to, itself included; None for all of them.

    Raises ValueError for a pattern in which that is not all there is to say.
    """
    if isinstance(pattern, Causal | Prefix):
        return None
    if isinstance(pattern, Window) and pattern.causal:
        return pattern.radius + 1
    if isinstance(pattern, Intersection):  # a text that is written is one document
        parts = [part for part in pattern.patterns if not isinstance(part, Documents)]
        if parts:
            return min((r for r in map(reach, parts) if r is not None), default=None)
    raise ValueError(
        f"the pattern {pattern} cannot be decoded with a cache: choose Causal, Prefix or a causal "
        "Window, or pass cache=False"
    )


def decoding_options(network: nn.Module, pattern: Patterns) -> dict[str, Any]:
    """How to generate with a network as it was trained: adjacency, context, and whether to cache.

    Raises ValueError for a pattern that shows tokens what follows them.
    """
    patterns = per_block(pattern)
    several = [patterns] if isinstance(patterns, Pattern) else patterns
    is_model = hasattr(network, "transformer")  # others do not attend
    batch = text_batch([[0] * _PROBE], [0], torch.device("cpu"))
    for each in several if is_model else ():
        source, target = each(batch).edge_index
        if bool((source > target).any()):
            raise ValueError(
                f"the network was trained over {each}, where tokens see what follows them, so it "
                "cannot write: train one over a causal pattern, such as Causal"
            )
    cache = is_model and all(map(_is_reach_known, several))
    return {"adjacency": patterns, "context": max_length(network), "cache": cache}


def per_block(pattern: Patterns) -> Patterns:
    """The pattern, or one a block of a `PerLayer`."""
    return pattern.patterns if isinstance(pattern, PerLayer) else pattern


def _is_reach_known(pattern: Pattern) -> bool:
    try:
        reach(pattern)
    except ValueError:
        return False
    return True


def text_batch(texts: Sequence[list[int]], prefixes: Sequence[int], device: torch.device) -> Any:
    """Texts as a batch: ids `x`, places `pos`, `lengths`, `prefix_lengths` and `documents`."""
    lengths = tuple(map(len, texts))
    return SimpleNamespace(
        x=torch.tensor([token for text in texts for token in text], device=device),
        pos=torch.cat([torch.arange(n, device=device) for n in lengths]),
        lengths=lengths,
        num_nodes=sum(lengths),
        prefix_lengths=tuple(prefixes),
        documents=lengths,
    )


def last_rows(batch: Any) -> Tensor:
    """The last node of each text, int64 [B]."""
    ends = torch.tensor(list(accumulate(batch.lengths)), device=batch.x.device)
    return ends - 1


def _adjacency(pattern: Patterns, batch: Any) -> Any:
    if isinstance(pattern, Pattern):
        return pattern(batch)
    return [each(batch) for each in pattern]
