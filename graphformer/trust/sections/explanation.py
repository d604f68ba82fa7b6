"""The section on explanation: fidelity of attributions beside random ones, rank of attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from statistics import fmean

import torch
from torch import Tensor

from graphformer.batch_type import BatchLike
from graphformer.data.text.base import TokenizedData
from graphformer.data.vision.base import PatchImages
from graphformer.nn import record_attention, unpatchify
from graphformer.patterns import lengths
from graphformer.tasks import Classification
from graphformer.trust.explanation import (
    Explained,
    attention_ranks,
    fidelity,
    overlap,
    top_nodes,
)
from graphformer.trust.explanation.pictures import (
    graph_picture,
    image_picture,
    nodes_around,
    text_picture,
)
from graphformer.trust.plots import Line, line_plot
from graphformer.trust.report import Cell, Figure, Section, Table
from graphformer.trust.run import Run, is_classification

NAME, TITLE = "explanation", "Explanation"
BATCHES = 2
NODES = 5
"""Nodes of one graph whose classes are explained."""
SHARE = 0.2
"""Share of the nodes of a sample that an explanation consists of, for table and agreement."""
SHARES = (0.1, 0.2, 0.4, 0.6)
LARGEST = 512
"""Nodes of a sample whose attention is decomposed at most."""
RANDOM = "random"
"""Name of the random attribution."""
DRAWN = 60
"""Nodes of a drawn graph at most."""

Attributions = dict[str, Tensor]


def explanation_section(run: Run) -> Section:
    """Return fidelity and agreement of attributions to nodes, and the rank of attention."""
    section = Section(NAME, TITLE)
    if is_classification(run.task) and run.task.level != "edge":
        _add_fidelity(section, run, run.task)
    else:
        section.notes.append(
            "Attributions explain classes of samples or of nodes; this run is a "
            f"{type(run.task).__name__}."
        )
    _add_ranks(section, run)
    return section


def _add_fidelity(section: Section, run: Run, task: Classification) -> None:
    """Add the table of fidelity at `SHARE`, its curve, the agreement, and pictures."""
    plus: dict[str, list[Tensor]] = {}
    minus: dict[str, list[Tensor]] = {}
    shared: dict[tuple[str, str], list[float]] = {}
    notes: dict[str, None] = {}
    at = SHARES.index(SHARE)
    for number, explained in enumerate(_explained(run, task)):
        found, missing = explained.attributions(run.seed + number)
        notes.update(dict.fromkeys(missing))
        if not number:
            _add_picture(section, run, explained, found)
        chosen = {
            name: [top_nodes(v, explained.groups, explained.candidates() * s) for s in SHARES]
            for name, v in found.items()
        }
        for name, sets in chosen.items():
            falls = [fidelity(explained.score, explained.x, each) for each in sets]
            plus.setdefault(name, []).append(torch.stack([fall for fall, _ in falls]))
            minus.setdefault(name, []).append(falls[at][1])
        for one, other in combinations(chosen, 2):
            value = overlap(chosen[one][at], chosen[other][at])
            shared.setdefault((one, other), []).append(value)
    falls_without = {name: torch.cat(parts, dim=1).double() for name, parts in plus.items()}
    curves: dict[str, list[float]] = {n: v.mean(1).tolist() for n, v in falls_without.items()}
    what = (
        "the nodes that a node's class depends on" if task.level == "node" else "a sample's nodes"
    )
    section.notes.append(
        f"An explanation is the {SHARE:.0%} of {what} (tokens, patches, atoms) with the highest "
        "attribution to the probability of the predicted class: its sparsity is "
        f"{1 - SHARE:.0%}. Fidelity plus: the fall of this probability without them, the larger "
        "the better; fidelity minus: its fall with them only, the smaller the better. A method is "
        "of use if it beats the random choice; the standard error is that of the difference of "
        f"both over {falls_without[RANDOM].shape[1]} samples."
    )
    section.notes += list(notes)
    rows: list[list[Cell]] = [
        [
            name,
            values[at].mean().item(),
            *_above(values[at], falls_without[RANDOM][at]),
            torch.cat(minus[name]).double().mean().item(),
        ]
        for name, values in falls_without.items()
    ]
    columns = ["method", "fidelity plus", "above random", "standard error", "fidelity minus"]
    section.tables.append(Table("Fidelity on the first test samples", columns, rows))
    section.metrics |= {f"fidelity plus, {row[0]}": float(row[1]) for row in rows}
    lines = {name: Line(SHARES, curve) for name, curve in curves.items()}
    plot = line_plot(lines, x_label="share of nodes removed", y_label="fall of probability")
    section.figures.append(Figure("Fidelity plus", plot))
    _add_agreement(section, list(curves), shared)


def _above(values: Tensor, others: Tensor) -> tuple[float, Cell]:
    """Return the mean difference of paired values [B], and its standard error for two or more."""
    difference = values - others
    if len(difference) < 2:
        return difference.mean().item(), ""
    return difference.mean().item(), difference.std().item() / math.sqrt(len(difference))


def _explained(run: Run, task: Classification) -> Iterator[Explained]:
    """Yield the classes that are explained: of batches of samples, or of nodes of one graph."""
    for _, batch in zip(range(BATCHES), run.batches("test"), strict=False):
        if task.level != "node":
            yield Explained(task, batch)
            continue
        mask = batch.get("test_mask")
        nodes = torch.arange(len(batch.y)) if mask is None else mask.nonzero().flatten()
        order = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(run.seed))
        for node in nodes[order[:NODES]].tolist():
            yield Explained(task, batch, node)
        return


def _add_agreement(
    section: Section, names: list[str], shared: Mapping[tuple[str, str], list[float]]
) -> None:
    """Add a table of the mean overlap of the explanations of two methods."""
    both = {**shared, **{(b, a): v for (a, b), v in shared.items()}}
    rows: list[list[Cell]] = [
        [one, *(1.0 if one == other else fmean(both[one, other]) for other in names)]
        for one in names
    ]
    title = "Agreement: nodes in both explanations by nodes in either"
    section.tables.append(Table(title, ["", *names], rows))


def _add_picture(section: Section, run: Run, explained: Explained, found: Attributions) -> None:
    """Add a picture of the attributions of the first sample, if there is one for its kind."""
    own, batch = explained.sample(), explained.batch
    first = {name: values[own] for name, values in found.items()}
    what = "the first sample" if explained.node is None else "the class of one node"
    title, markup = f"Attributions of {what}", None
    if isinstance(run.data, PatchImages) and len(batch.get("shapes", [()])[0]) == 2:
        pixels = run.data.pixels(batch.x[own]).clamp(0, 1)
        grid = pixels.unflatten(0, tuple(batch.shapes[0]))[None]
        image = unpatchify(grid, run.data.patch_size)[0][:3].permute(1, 2, 0).numpy()
        markup = image_picture(image, tuple(batch.shapes[0]), first)
    elif isinstance(run.data, TokenizedData) and not batch.x.is_floating_point():
        tokenizer = run.data.need_tokenizer()
        tokens = [tokenizer.backend.id_to_token(i) or "?" for i in batch.x[own].tolist()]
        markup = text_picture(tokens, first)
    elif batch.get("edge_index") is not None:
        markup = _graph_markup(batch, own, found, explained.node)
    if markup is None:
        section.notes.append("No picture was drawn: the samples are no images, texts or graphs.")
        return
    section.figures.append(Figure(title, markup))


def _graph_markup(batch: BatchLike, own: slice, found: Attributions, node: int | None) -> str:
    """Return a drawing of the nodes `own`, or of those around the explained one."""
    nodes = torch.arange(own.start, own.stop)
    if node is not None:
        nodes = nodes_around(node, batch.edge_index, found["random"].isfinite())
    nodes = nodes[:DRAWN]
    new = torch.full((int(batch.num_nodes),), -1)
    new[nodes] = torch.arange(len(nodes))
    edges = new[batch.edge_index]
    inside = (edges >= 0).all(0)
    values = {name: v[nodes].clamp(min=v[v.isfinite()].min()) for name, v in found.items()}
    return graph_picture(edges[:, inside], values, marked=None if node is None else 0)


def _add_ranks(section: Section, run: Run) -> None:
    """Add the mean rank of attention matrices by block, for samples of up to `LARGEST` nodes."""
    batch = next(run.batches("test"))
    sizes = list(lengths(batch))
    with record_attention(run.task.network) as records:
        run.task(batch)
    same = [r for r in records if r.adjacency.shape == (sum(sizes), sum(sizes))]
    if not same:
        section.notes.append(
            "The rank of attention was left out: the network records no attention among the nodes "
            "of a sample."
        )
        return
    if max(sizes) > LARGEST:
        section.notes.append(
            f"The rank of attention was left out: a sample has {max(sizes)} nodes, and matrices of "
            f"up to {LARGEST} are decomposed."
        )
        return
    means = [attention_ranks(record, sizes[:20]).mean(0) for record in same]
    rows: list[list[Cell]] = [
        [block, float(rank.mean()), float(rank.min()), float(rank.max())]
        for block, rank in enumerate(means, start=1)
    ]
    section.notes.append(
        "Rank of attention: the number of singular values above a thousandth of the largest, by "
        "the number of nodes, mean over samples. Causal matrices are triangular with a positive "
        "diagonal and so of full rank in exact numbers; low ranks mean that nodes attend alike."
    )
    columns = ["block", "rank, mean of heads", "lowest head", "highest head"]
    section.tables.append(Table("Rank of attention matrices", columns, rows))
    line = Line([float(row[0]) for row in rows], [float(row[1]) for row in rows])
    plot = line_plot(
        {"rank": line}, x_label="block", y_label="rank by number of nodes", y_range=(0, 1.05)
    )
    section.figures.append(Figure("Rank of attention by block", plot))
