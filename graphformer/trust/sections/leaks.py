"""The section on leaks between the splits of the data."""

from __future__ import annotations

import textwrap
from itertools import combinations

from torch_geometric.data import Data

from graphformer.data import LabelledText
from graphformer.data.base import SPLITS, DataModule
from graphformer.trust.leaks.near_duplicates import nearest, sample_inputs
from graphformer.trust.leaks.shared import (
    encodings_differ,
    input_hash,
    leaking_edges,
    overlapping_masks,
    sample_hashes,
    shared_samples,
)
from graphformer.trust.report import Cell, Section, Table
from graphformer.trust.run import Run

NAME, TITLE = "leaks", "Data leaks"
EXAMPLES = 10
HASHED = 100_000
"""Samples of a split that are compared for equality; blocks of a long text are millions."""
TRAINING, TESTED = 20_000, 2_000
"""Samples that are compared for near-duplicates."""
NEAR = 0.9


def leaks_section(run: Run) -> Section:
    """Return duplicates across splits, and test answers that a graph contains."""
    section = Section(NAME, TITLE)
    graph = _single_graph(run.data)
    if graph is None:
        _add_duplicates(section, run.data)
    else:
        _add_graph(section, graph)
    return section


def _single_graph(data: DataModule) -> Data | None:
    """Return the one graph that all splits share; None for data of several samples."""
    dataset = data.batches("test").dataset
    if len(dataset) != 1:
        return None
    graph = next(iter(data.batches("test")))
    return graph if {"test_mask", "test_edge_label_index"} & set(graph.keys()) else None


def _add_duplicates(section: Section, data: DataModule) -> None:
    hashes: dict[str, list[str]] = {}
    for split in SPLITS:
        dataset = data.batches(split).dataset
        if hasattr(dataset, "augmentation"):
            dataset.augmentation = None
        hashes[split] = sample_hashes(dataset, HASHED)
    rows: list[list[Cell]] = []
    examples: list[list[Cell]] = []
    for first, second in combinations(SPLITS, 2):
        shared = shared_samples(hashes[first], hashes[second])
        count = len(hashes[second])
        rows.append([first, second, len(shared), count, len(shared) / count])
        examples += [[first, i, second, j, *_text(data, second, j)] for i, j in shared[:EXAMPLES]]
        section.metrics[f"samples of {second} that {first} contains"] = float(len(shared))
        if len(shared) == count == len(hashes[first]):
            section.notes.append(
                f"The splits {first} and {second} have the same samples: a model chosen by "
                f"figures of {first} has too good figures of {second}."
            )
    section.notes.append(
        "Two samples are duplicates if their nodes, edges and edge features are equal; labels, "
        f"positions and encodings are not compared; of each split the first {HASHED:,} are read. "
        + ("No duplicate was found." if not examples else "Duplicates make test figures too good.")
    )
    columns = ["split", "and split", "duplicates", "samples of the second", "share"]
    section.tables.append(Table("Duplicates across splits", columns, rows))
    if examples:
        columns = ["split", "sample", "split", "equal sample", "text"][: len(examples[0])]
        section.tables.append(Table(f"First {EXAMPLES} of each", columns, examples))
    _add_near_duplicates(section, data)


def _text(data: DataModule, split: str, index: int) -> list[Cell]:
    """Return the beginning of a text, nothing for samples of another kind."""
    if not isinstance(data, LabelledText):
        return []
    return [textwrap.shorten(data.splits[split][index][0], 60, placeholder=" ...")]


def _add_near_duplicates(section: Section, data: DataModule) -> None:
    """Add how many test samples almost equal one of the training samples, the nearest first."""
    train, test = (
        sample_inputs(data.batches(split).dataset, count)
        for split, count in (("train", TRAINING), ("test", TESTED))
    )
    found = nearest(train, test) if train and test else None
    if found is None:
        section.notes.append(
            "Near-duplicates were not searched: the samples have features and different sizes."
        )
        return
    similarity, index = found
    count = int((similarity >= NEAR).sum())
    what = "cosine of centred features" if train[0].is_floating_point() else "shared shingles"
    section.metrics["test samples with a near-duplicate in train"] = float(count)
    section.notes.append(
        f"Near-duplicates have a similarity of at least {NEAR} ({what}): {count} of the first "
        f"{len(test)} test samples have one among the first {len(train)} training samples."
    )
    order = similarity.argsort(descending=True, stable=True)[:EXAMPLES].tolist()
    rows: list[list[Cell]] = [[i, int(index[i]), float(similarity[i])] for i in order]
    columns = ["test sample", "training sample", "similarity"]
    section.tables.append(Table("Most similar pairs", columns, rows))


def _add_graph(section: Section, graph: Data) -> None:
    """Add what one graph with split nodes or split edges leaks."""
    counts: dict[str, int] = {}
    if "test_edge_label_index" in graph:
        counts |= leaking_edges(graph)
    else:
        counts |= {f"nodes of {pair}": n for pair, n in overlapping_masks(graph).items()}
        counts |= _equal_nodes(graph)
    for encoding, count in encodings_differ(graph).items():
        counts[f"nodes whose encoding {encoding} is not that of edge_index"] = count
    section.metrics |= {name: float(count) for name, count in counts.items()}
    found = [name for name, count in counts.items() if count]
    section.notes.append(
        "The splits are nodes or edges of one graph. "
        + (f"Found: {', '.join(found)}." if found else "No leak was found.")
    )
    rows: list[list[Cell]] = [[name, count] for name, count in counts.items()]
    section.tables.append(Table("Shared between splits", ["what", "count"], rows))


def _equal_nodes(graph: Data) -> dict[str, int]:
    """Return the number of test nodes that have the features of a training node."""
    x = graph.x.to_dense()
    splits = [
        [input_hash(Data(x=row)) for row in x[graph[f"{split}_mask"]]]
        for split in ("train", "test")
    ]
    return {"test nodes with the features of a training node": len(shared_samples(*splits))}
