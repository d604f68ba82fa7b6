"""`export_model`: a trained model as a program of `torch.export`, with sizes that may vary."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from graphformer.adjacency import Adjacency
from graphformer.batch_type import Batch, BatchLike
from graphformer.export.edge_list import edge_list
from graphformer.export.inputs import (
    as_batch,
    as_image,
    as_numbered_batch,
    image_maker,
    other_sizes,
    read_inputs,
    tensor_inputs,
)
from graphformer.ops.select import without_custom_operators
from graphformer.patterns import Pattern

Form = Literal["edges", "nodes", "fixed"]
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """A program with its inputs.

    Attributes:
        program: from the inputs, in this order, to the output of the model.
        example: the inputs of the sample that was exported, by name.
        form: what may vary, see `export_model`.
        adjacency: pattern that makes the edges of attention of a batch.
    """

    program: ExportedProgram
    example: dict[str, Tensor]
    form: Form
    adjacency: Pattern
    patch_size: int | None = None

    def inputs(self, batch: BatchLike) -> dict[str, Tensor]:
        """Return the inputs of the program for a batch of one sample, by name.

        Raises:
            ValueError: when the batch has several samples, or lacks an input.
        """
        with torch.no_grad():
            found = tensor_inputs(batch, self.adjacency(batch))
        shapes = getattr(batch, "shapes", None)
        if self.patch_size is not None and shapes is not None:
            found["image"] = as_image(found["x"], shapes[0], self.patch_size)
        missing = [name for name in self.example if name not in found]
        if missing:
            raise ValueError(f"batch: got no {missing[0]}, expected it as an input of the program")
        return {name: found[name] for name in self.example}


MakeBatch = Callable[[dict[str, Tensor]], Batch]
MakeAdjacency = Callable[[Batch], Adjacency]


class _Program(nn.Module):
    """A model as a function of tensors; `names` are those of the tensors."""

    def __init__(
        self,
        network: nn.Module,
        names: list[str],
        make_batch: MakeBatch,
        make_adjacency: MakeAdjacency,
    ) -> None:
        super().__init__()
        self.network, self.names = network, names
        self.make_batch, self.make_adjacency = make_batch, make_adjacency

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return the output of the model for one sample."""
        batch = self.make_batch(dict(zip(self.names, tensors, strict=True)))
        output: Tensor = self.network(batch, self.make_adjacency(batch))
        return output


def export_model(
    network: nn.Module,
    adjacency: Pattern,
    batch: BatchLike,
    *,
    form: Form = "edges",
    patch_size: int | None = None,
) -> Exported:
    """Return a model as a program of torch's own operators, whose output is checked.

    Args:
        network: the model; it is exported in evaluation mode, on the CPU.
        adjacency: pattern of the edges of attention.
        batch: one sample: a text, an image, or a graph.
        form: "edges": the edges of attention are an input, edge_index [2, E] in any order, without
            repeated ones; the numbers of nodes and edges may vary, as for graphs. "nodes": the
            edges follow from the number of nodes, which may vary, as for texts over `Complete` or
            `Causal`. "fixed": x is the only input, and no size may vary, as for images of one
            size.
        patch_size: for form "fixed", of an image: the input is `image` [1, C, height, width],
            scaled as in training, instead of its patches x [N, F].

    Raises:
        ValueError: when the batch has several samples, torch cannot export the model with such
            sizes, or the program returns something else than the model.
    """
    network.eval()
    with torch.no_grad(), without_custom_operators():
        edges = adjacency(batch)
        inputs = tensor_inputs(batch, edges)
        expected: Tensor = network(batch, edges)
        example, make_batch, make_adjacency = _prepare(
            form, inputs, batch, adjacency, edges, patch_size
        )
        run = _runner(network, make_batch, make_adjacency)
        if form != "fixed":
            example = read_inputs(run, example)
        _check_output(run(example), expected, "the form " + repr(form))
        module = _Program(network, list(example), make_batch, make_adjacency)
        program = _export(module, example, form)
        _check_output(program.module()(*example.values()), expected, "the exported program")
        other = None if form == "fixed" else other_sizes(example)
        if other is not None:
            _check_output(program.module()(*other.values()), run(other), "the exported program")
    return Exported(program, example, form, adjacency, patch_size)


def save_program(exported: Exported, path: str | os.PathLike[str]) -> None:
    """Write a program for `torch.export.load`, which needs torch alone; the name ends in .pt2.

    Raises:
        ValueError: when the name ends otherwise.
    """
    if Path(path).suffix != ".pt2":
        raise ValueError(f"path: got {os.fspath(path)}, expected a name that ends in .pt2")
    torch.export.save(exported.program, path)


def _prepare(
    form: Form,
    inputs: dict[str, Tensor],
    batch: BatchLike,
    pattern: Pattern,
    edges: Adjacency,
    patch_size: int | None,
) -> tuple[dict[str, Tensor], MakeBatch, MakeAdjacency]:
    """Return the inputs of a form, and what makes batch and adjacency of them."""
    if form == "edges":
        return inputs, as_batch, _listed
    if form == "nodes":
        return (*_without_positions(inputs), pattern)
    return (*_fixed(inputs, batch, patch_size), _Constant(edges))


def _listed(batch: Batch) -> Adjacency:
    return edge_list(batch.edge_index, batch.x.shape[0])


class _Constant:
    """An adjacency that does not depend on the batch."""

    def __init__(self, adjacency: Adjacency) -> None:
        self.adjacency = adjacency

    def __call__(self, batch: Batch) -> Adjacency:
        return self.adjacency


def _without_positions(inputs: dict[str, Tensor]) -> tuple[dict[str, Tensor], MakeBatch]:
    """Return the inputs of form "nodes"; positions 0, 1, ... are made by the program."""
    example = {name: value for name, value in inputs.items() if name != "edge_index"}
    pos = example.get("pos")
    if pos is None or pos.ndim != 1 or not torch.equal(pos, torch.arange(len(pos))):
        return example, as_batch
    del example["pos"]
    return example, as_numbered_batch


def _fixed(
    inputs: dict[str, Tensor], batch: BatchLike, patch_size: int | None
) -> tuple[dict[str, Tensor], MakeBatch]:
    """Return the input of form "fixed", and what makes the batch of it."""
    shapes = getattr(batch, "shapes", None)
    constants = {name: value for name, value in inputs.items() if name != "x"}
    make = image_maker(constants, shapes, patch_size)
    if patch_size is None:
        return {"x": inputs["x"]}, make
    if shapes is None:
        raise ValueError("patch_size: got it for a sample that is no image; leave it out")
    return {"image": as_image(inputs["x"], shapes[0], patch_size)}, make


def _runner(
    network: nn.Module, make_batch: MakeBatch, make_adjacency: MakeAdjacency
) -> Callable[[dict[str, Tensor]], Tensor]:
    def run(inputs: dict[str, Tensor]) -> Tensor:
        batch = make_batch(inputs)
        output: Tensor = network(batch, make_adjacency(batch))
        return output

    return run


def _export(module: _Program, example: dict[str, Tensor], form: Form) -> ExportedProgram:
    sizes: list[dict[int, object] | None] = []
    for name in example:
        along = 1 if name == "edge_index" else 0
        sizes.append(None if form == "fixed" else {along: Dim.DYNAMIC})
    try:
        return torch.export.export(
            module, tuple(example.values()), dynamic_shapes={"tensors": tuple(sizes)}, strict=False
        )
    except Exception as error:  # torch raises errors of many classes
        line = str(error).strip().partition("\n")[0][:300]
        raise ValueError(
            f"form: got {form!r}, in which torch cannot export {type(module.network).__name__} "
            f"({line}); choose another form"
        ) from error


def _check_output(output: Tensor, expected: Tensor, what: str) -> None:
    """Compare the output of a program with that of the model.

    Raises:
        ValueError: when they differ.
    """
    if output.shape == expected.shape and torch.allclose(
        output, expected, rtol=_TOLERANCE, atol=_TOLERANCE
    ):
        return
    raise ValueError(
        f"network: got another output from {what} than from the model, expected the same; biases "
        "of the parts of a union, encodings of paths and virtual nodes cannot be exported"
    )
