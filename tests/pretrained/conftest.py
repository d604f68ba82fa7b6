"""Small models of `transformers` with random weights, and a checkpoint folder of BERT."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoints import CONFIG, bert_tensors
from safetensors.torch import load_file, save_file


@pytest.fixture
def transformers() -> Any:
    """The library, or the test is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="needs the extra `models`: transformers")


@pytest.fixture
def make(transformers: Any) -> Any:
    """`make("BertModel", "BertConfig", dtype, **sizes)`: a model without constant weights."""

    def made(name: str, config: str, dtype: torch.dtype = torch.float32, **sizes: Any) -> Any:
        torch.manual_seed(20)
        model = getattr(transformers, name)(getattr(transformers, config)(**sizes))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model.to(dtype).eval()

    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A valid checkpoint of BERT without a head and a pooler."""
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(bert_tensors(), folder / "model.safetensors")
    return folder


@pytest.fixture
def shards(folder: Path) -> Path:
    """The same checkpoint in two shards."""
    tensors = load_file(folder / "model.safetensors")
    parts = {"a.safetensors": list(tensors)[::2], "b.safetensors": list(tensors)[1::2]}
    for file, names in parts.items():
        save_file({name: tensors[name] for name in names}, folder / file)
    weight_map = {name: file for file, names in parts.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    return folder
