"""`save_onnx`: an exported model as an ONNX file, checked in onnxruntime."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graphformer.export.inputs import other_sizes
from graphformer.export.program import Exported

OPSET = 20
"""The version of ONNX's operators that is written by default; `torch.onnx` writes 18 and up."""
_TOLERANCE = 1e-3


def save_onnx(
    exported: Exported,
    path: str | os.PathLike[str],
    *,
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
    check: bool = True,
) -> None:
    """Write an ONNX file whose inputs are named as `exported.example` and whose output is "output".

    Args:
        exported: of `export_model`.
        path: of the file; its name ends in .onnx.
        opset: version of ONNX's operators.
        metadata: texts that the file contains, such as names of classes.
        check: whether the file is run in onnxruntime, with other numbers of nodes and edges too,
            and compared with the program.

    Raises:
        ModuleNotFoundError: without onnx, onnxscript or, to check, onnxruntime.
        ValueError: when the name ends otherwise, an operator has no counterpart in ONNX, or
            onnxruntime returns something else.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise ValueError(f"path: got {target}, expected a name that ends in .onnx")
    check_packages(with_runtime=check)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _write(exported, partial, opset, metadata or {})
        if check:
            _check(exported, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def check_packages(*, with_runtime: bool = True) -> None:
    """Check that the packages of the extra `onnx` are installed.

    Raises:
        ModuleNotFoundError: when one is not.
    """
    for name in ("onnx", "onnxscript", *(("onnxruntime",) if with_runtime else ())):
        if find_spec(name) is None:
            raise ModuleNotFoundError(
                f'ONNX files need the package {name}; pip install "graphformer[onnx]"'
            )


def _write(exported: Exported, path: Path, opset: int, metadata: Mapping[str, str]) -> None:
    import onnx

    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns that torchvision is not installed
    try:
        # torch prints its progress, and warns of its own deprecated functions.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            made = torch.onnx.export(
                exported.program,
                input_names=list(exported.example),
                output_names=["output"],
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        assert made is not None
        model = made.model_proto
    except Exception as error:  # torch raises errors of many classes
        line = " ".join(str(error).split())[:300]
        raise ValueError(f"opset: got {opset}, with which torch writes no ONNX ({line})") from error
    finally:
        log.setLevel(level)
    about = {"adjacency": str(exported.adjacency), "form": exported.form}
    onnx.helper.set_model_props(model, {**about, **metadata})
    onnx.save(model, path)


def _check(exported: Exported, path: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    other = None if exported.form == "fixed" else other_sizes(exported.example)
    for inputs in (exported.example, other):
        if inputs is None:
            continue
        with torch.no_grad():
            expected: Tensor = exported.program.module()(*inputs.values())
        arrays = {name: value.numpy() for name, value in inputs.items()}
        (output,) = session.run(None, arrays)
        if not np.allclose(output, expected.numpy(), rtol=_TOLERANCE, atol=_TOLERANCE):
            raise ValueError(
                f"{path.name}: got another output in onnxruntime than in torch for "
                f"{next(iter(inputs.values())).shape[0]} nodes, expected the same; export to .pt2"
            )
