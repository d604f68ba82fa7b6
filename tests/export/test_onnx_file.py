"""ONNX files in onnxruntime against the model, for other numbers of nodes and edges."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.exported import exported

from graphformer.export import onnx_file, save_onnx


@pytest.mark.parametrize("name", ["edges", "nodes", "fixed"])
def test_onnxruntime_equals_the_model(name: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import onnxruntime

    network, made, samples = exported(name)
    save_onnx(made, tmp_path / "a.onnx", metadata={"classes": '["a"]'})
    assert [file.name for file in tmp_path.glob("*onnx*")] == ["a.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == list(made.example)
    about = session.get_modelmeta().custom_metadata_map
    assert (about["form"], about["classes"]) == (name, '["a"]')
    for sample in samples:
        with torch.no_grad():
            expected = network(sample, made.adjacency(sample))
        arrays = {key: value.numpy() for key, value in made.inputs(sample).items()}
        (found,) = session.run(["output"], arrays)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        onnx_file, "find_spec", lambda name: None if name == "onnxscript" else found("json")
    )
    with pytest.raises(ModuleNotFoundError, match=r"need the package onnxscript; pip install"):
        onnx_file.check_packages()


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"path: got a.bin, expected a name that ends in .onnx"):
        save_onnx(SimpleNamespace(), "a.bin")  # type: ignore[arg-type]
