"""Events between nodes at known times: links to predict from the neighbours before each event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from graphformer.batch_type import Batch
from graphformer.data.base import SPLITS, DataModule
from graphformer.data.graph.own.tables import column, features, numbers, read_columns
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.deprecated import renamed_keywords


class Events(NamedTuple):
    """n events in the order of their times."""

    source: np.ndarray
    """int64 [n]."""
    target: np.ndarray
    """int64 [n]."""
    time: np.ndarray
    """float64 [n], ascending."""
    attr: Tensor | None
    """Features, [n, F]."""


class EventLinks(DataModule):
    """Whether an event between two nodes takes place, from the events before it.

    Splits are by time: the first events are for training, the last for testing. A batch has a
    sample for each event, with its source, its target, the target of another event, drawn at
    random, and the most recent events of these nodes and of their neighbours before its time.
    Events of the other splits are neighbours too, if they are earlier. Fields are x [N, 1] of ones,
    edge_index [2, E] from neighbour to node, edge_time [E], edge_attr [E, F] if events have
    features, node_time [N] (the time of the sample's event), n_id [N], lengths, and
    `edge_label_index` [2, 2B] with `edge_label` [2B], 1 for the event and 0 for the drawn node:
    what the task `EdgeClassification` with `num_classes: 2` reads.

    Args:
        path: a table (.csv, .tsv, .jsonl or .parquet) with a row for each event.
        source, target: columns of the nodes, of any names.
        time: column of the time, a number.
        features: columns of the events' features.
        encoding: of the file, such as "latin-1".
        fanouts: number of most recent events of each node in each hop.
        batch_size: events in a batch.
        val_fraction, test_fraction: of the events.
        root: the data root.
        seed: of the order and of the drawn nodes.

    Raises:
        MissingDataError: when the file is missing.
        ValueError: when a cell is no number, a split has no events, or all have one target.
    """

    num_classes = 2

    def __init__(
        self,
        path: str,
        *,
        source: str = "source",
        target: str = "target",
        time: str = "time",
        features: Sequence[str] = (),
        encoding: str = "utf-8",
        fanouts: Sequence[int] = (10,),
        batch_size: int = 200,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (val_fraction > 0 and test_fraction > 0 and val_fraction + test_fraction < 1):
            raise ValueError(
                f"val_fraction and test_fraction: got {val_fraction} and {test_fraction}, expected "
                "both above 0 and a sum below 1"
            )
        if not fanouts or min(fanouts) < 1:
            raise ValueError(f"fanouts: got {list(fanouts)}, expected numbers of 1 or more")
        self.save_hyperparameters(logger=False)
        self.path, self.source, self.target, self.time = path, source, target, time
        self.features, self.fanouts, self.batch_size = list(features), list(fanouts), batch_size
        self.fractions, self.root, self.seed = (val_fraction, test_fraction), root, seed
        self.encoding = encoding
        self.num_features = 1
        self.names: list[str] = []
        self._history: History | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read the events once; nodes are numbered by their names, sorted."""
        if self._history is not None:
            return
        table = read_columns(self.path, self.root, self.encoding)
        ends = [
            list(map(str, column(table, name, self.path))) for name in (self.source, self.target)
        ]
        names, numbered = np.unique(np.array(ends), return_inverse=True)
        self.names = names.tolist()
        time = numbers(
            column(table, self.time, self.path), self.time, self.path, np.float64
        ).numpy()
        if len(np.unique(numbered.reshape(2, -1)[1])) < 2:
            raise ValueError(
                f"{self.path}: got one node in the column {self.target!r}, expected two or more, "
                "of which one is drawn for each event"
            )
        order = np.argsort(time, kind="stable")
        attr = features(table, self.features, {}, self.path, other=()) if self.features else None
        source, target = numbered.reshape(2, -1)[:, order]
        events = Events(source, target, time[order], None if attr is None else attr[order])
        self.num_edge_features = 0 if attr is None else attr.shape[1]
        self._history = History(events, len(self.names))

    @renamed_keywords(part="split")
    def batches(self, split: str) -> BatchLoader:
        """Return the events of a split, in random order for training.

        Raises:
            RuntimeError: before `setup`.
            ValueError: when the split has no events.
        """
        if self._history is None:
            raise RuntimeError(f"{type(self).__name__} has no events yet; call setup() first")
        count = len(self._history.events.time)
        val, test = (round(count * fraction) for fraction in self.fractions)
        stops = (0, count - val - test, count - test, count)
        number = SPLITS.index(split)
        first, last = stops[number], stops[number + 1]
        if first >= last:
            raise ValueError(
                f"{self.path}: got {count} events, too few for the {split} split; choose other "
                "fractions"
            )
        order = BatchSampler(
            last - first, self.batch_size, shuffle=split == "train", seed=self.seed
        )
        samples = EventSamples(
            self._history, first, last, self.fanouts, redraw=split == "train", seed=self.seed
        )
        return BatchLoader(samples, order)


class EventSamples:
    """Some of the events; a batch of them has their neighbourhoods and drawn nodes.

    The node that is drawn for an event depends on (seed, epoch, event) only.

    Args:
        history: all events.
        first, last: the events of the split are first to last - 1.
        fanouts: of each hop.
        redraw: whether every epoch has other drawn nodes.
        seed: of the drawn nodes.
    """

    def __init__(
        self,
        history: History,
        first: int,
        last: int,
        fanouts: Sequence[int],
        *,
        redraw: bool,
        seed: int,
    ) -> None:
        self.history, self.first, self.last = history, first, last
        self.fanouts, self.redraw, self.seed = fanouts, redraw, seed
        self.drawn = self._draw(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the nodes of an epoch, unless they are fixed."""
        if self.redraw:
            self.drawn = self._draw(epoch)

    def _draw(self, epoch: int) -> np.ndarray:
        """Return for each event the target of any event that is not its own, int64 [n]."""
        events = self.history.events
        generator = np.random.default_rng((self.seed, epoch, self.first))
        targets = np.unique(events.target)
        own = np.searchsorted(targets, events.target[self.first : self.last])
        steps = generator.integers(1, len(targets), size=len(own))
        return targets[(own + steps) % len(targets)]

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: Tensor) -> Batch:
        events, number = self.history.events, index.numpy() + self.first
        ends = np.stack([events.source[number], events.target[number], self.drawn[index.numpy()]])
        found = self.history.neighborhoods(ends.T, events.time[number], self.fanouts)
        local = found.local(ends)  # of source, target and drawn node, [3, B]
        pairs = np.concatenate([local[[0, 1]], local[[0, 2]]], axis=1)
        batch = Batch(
            x=torch.ones(len(found.node), 1),
            edge_index=torch.from_numpy(found.edge_index),
            edge_time=torch.from_numpy(events.time[found.event]),
            node_time=torch.from_numpy(events.time[number][found.root]),
            n_id=torch.from_numpy(found.node),
            edge_label_index=torch.from_numpy(pairs),
            edge_label=(torch.arange(2 * len(number)) < len(number)).long(),
        )
        batch.num_nodes = len(found.node)
        batch.lengths = tuple(np.bincount(found.root, minlength=len(number)).tolist())
        if events.attr is not None:
            batch.edge_attr = events.attr[torch.from_numpy(found.event)]
        return batch


class Neighborhoods(NamedTuple):
    """The nodes and edges of B samples, grouped by sample; the same node of two samples is two."""

    keys: np.ndarray
    """Sample times number of nodes plus node, ascending, int64 [N]."""
    num_nodes: int
    """Of the graph."""
    edge_index: np.ndarray
    """From neighbour to node, int64 [2, E]."""
    event: np.ndarray
    """The event of each edge, int64 [E]."""

    @property
    def node(self) -> np.ndarray:
        """Node of the graph, [N]."""
        return self.keys % self.num_nodes

    @property
    def root(self) -> np.ndarray:
        """Sample of each node, [N]."""
        return self.keys // self.num_nodes

    def local(self, nodes: np.ndarray) -> np.ndarray:
        """Return the number of nodes [..., B] of the graph in their samples."""
        return np.searchsorted(self.keys, np.arange(nodes.shape[-1]) * self.num_nodes + nodes)


class History:
    """Events by node and time, in both directions.

    Args:
        events: in the order of their times.
        num_nodes: number of nodes.
    """

    def __init__(self, events: Events, num_nodes: int) -> None:
        self.events, self.num_nodes = events, num_nodes
        nodes = np.concatenate([events.target, events.source])
        event = np.tile(np.arange(len(events.time)), 2)
        order = np.lexsort((event, nodes))
        self.event, self.node = event[order], nodes[order]
        self.neighbor = np.concatenate([events.source, events.target])[order]
        self.times = np.unique(events.time)
        rank = np.searchsorted(self.times, events.time)[self.event]
        self.keys = self.node * (len(self.times) + 1) + rank  # ascending
        self.indptr = np.searchsorted(self.node, np.arange(num_nodes + 1))

    def recent(
        self, nodes: np.ndarray, times: np.ndarray, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the last `size` events of each node before a time, the earliest first.

        Args:
            nodes: int64 [n].
            times: of each node, [n]; an event at that time is not before it.
            size: largest number of events.

        Returns:
            Which of the nodes, int64 [k], and the position of the event in this history, int64 [k].
        """
        rank = np.searchsorted(self.times, times)
        stop = np.searchsorted(self.keys, nodes * (len(self.times) + 1) + rank)
        start = np.maximum(self.indptr[nodes], stop - size)
        counts = stop - start
        which = np.arange(len(nodes)).repeat(counts)
        offset = np.arange(len(which)) - (counts.cumsum() - counts)[which]
        return which, start[which] + offset

    def neighborhoods(
        self, nodes: np.ndarray, times: np.ndarray, fanouts: Sequence[int]
    ) -> Neighborhoods:
        """Return the recent events of nodes, then of their neighbours, before the sample's time.

        Args:
            nodes: of each sample, int64 [B, k].
            times: of each sample, [B].
            fanouts: number of events of a node in each hop.
        """
        roots = np.arange(len(nodes)).repeat(nodes.shape[1])
        frontier = np.unique(roots * self.num_nodes + nodes.reshape(-1))
        known, edges = frontier, []
        for size in fanouts:
            root = frontier // self.num_nodes
            which, slots = self.recent(frontier % self.num_nodes, times[root], size)
            sources = root[which] * self.num_nodes + self.neighbor[slots]
            edges.append((sources, frontier[which], self.event[slots]))
            frontier = np.setdiff1d(sources, known)
            known = np.union1d(known, frontier)
        source, target, event = (np.concatenate([hop[i] for hop in edges]) for i in range(3))
        edge_index = np.searchsorted(known, np.stack([source, target]))
        return Neighborhoods(known, self.num_nodes, edge_index, event)
