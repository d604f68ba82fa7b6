"""`graphformer export`: a trained model as an ONNX file or a program of torch.export."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphformer.cli.config.command_parser import CommandParser, output_file, whole_number
from graphformer.cli.errors import UsageError

if TYPE_CHECKING:
    from graphformer.adjacency import Adjacency
    from graphformer.batch_type import BatchLike
    from graphformer.export import Exported

SUFFIXES = (".onnx", ".pt2")
_MIN_NODES = 3
_SEARCHED = 100


def main(argv: Sequence[str]) -> int:
    """Write the file and print its inputs; return 0.

    Raises:
        UsageError: when the arguments, the checkpoint or the data are wrong, a package is missing,
            or the model cannot be exported.
    """
    parser = CommandParser("export", __doc__ or "")
    parser.add_argument("--ckpt", required=True, help="a checkpoint, or the folder of a run")
    parser.add_argument(
        "--out",
        type=output_file(*SUFFIXES),
        required=True,
        help="a name that ends in .onnx or .pt2",
    )
    parser.add_argument(
        "--form",
        choices=("edges", "nodes", "fixed"),
        help="edges: nodes and edges may vary (graphs); nodes: nodes may vary (texts); fixed: no "
        "size varies (images); by default by the data",
    )
    parser.add_argument("--config", help="a file whose data has the sample to trace, with others")
    parser.add_argument("--opset", type=whole_number(18), help="version of ONNX's operators")
    arguments = parser.parse_args(argv)
    path = arguments.out
    if path.suffix == ".pt2" and arguments.opset is not None:
        raise UsageError("export: --opset: got it for .pt2, expected it with .onnx; leave it out")
    from graphformer.cli.config.arguments import find_checkpoint
    from graphformer.cli.errors import plain_errors
    from graphformer.export import OPSET, save_onnx, save_program
    from graphformer.export.onnx_file import check_packages

    with plain_errors():
        if path.suffix == ".onnx":
            check_packages()
        ckpt = find_checkpoint(arguments.ckpt, "export")
        exported, metadata = _export(ckpt, arguments.config, arguments.form)
        if path.suffix == ".onnx":
            save_onnx(exported, path, opset=arguments.opset or OPSET, metadata=metadata)
        else:
            save_program(exported, path)
    inputs = ", ".join(f"{name} {list(value.shape)}" for name, value in exported.example.items())
    print(f"wrote {path}: form {exported.form}, inputs {inputs} (of the sample that was traced)")
    return 0


def _export(ckpt: Path, config: str | None, form: str | None) -> tuple[Exported, dict[str, str]]:
    """Return the exported model of a checkpoint, and what its file says of it."""
    from graphformer.cli.checkpoints import restore_task
    from graphformer.cli.prediction_files import class_names
    from graphformer.cli.run_data import restore_data
    from graphformer.export import export_model
    from graphformer.export.calibrated import calibrated

    task, data = restore_task(ckpt), restore_data(ckpt, config)
    sample = _sample(data)
    chosen: Any = form or _default_form(sample, task.adjacency(sample))
    shapes = getattr(sample, "shapes", None) or [()]
    is_image = chosen == "fixed" and len(shapes[0]) == 2  # not a video, whose shape has a time
    patch_size = getattr(data, "patch_size", None) if is_image else None
    exported = export_model(
        calibrated(task), task.adjacency, sample, form=chosen, patch_size=patch_size
    )
    names = class_names(data)
    metadata = {} if names is None else {"classes": json.dumps(names)}
    return exported, {**metadata, "task": type(task).__name__}


def _sample(data: Any) -> BatchLike:
    """Return the first test sample with a few nodes, without which sizes would be constants."""
    import torch

    dataset = data.batches("test").dataset
    for number in range(min(len(dataset), _SEARCHED)):
        sample: BatchLike = dataset[torch.tensor([number])]
        if sample.num_nodes is not None and sample.num_nodes >= _MIN_NODES:
            return sample
    raise UsageError(
        f"export: got no sample of {_MIN_NODES} nodes or more in the test split, expected one"
    )


def _default_form(sample: BatchLike, adjacency: Adjacency) -> str:
    from graphformer.adjacency import Implicit

    if getattr(sample, "shapes", None) is not None:
        return "fixed"
    return "nodes" if isinstance(adjacency, Implicit) else "edges"
