"""Families of models by a table: outputs, gradients, texts and files equal `transformers`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.checkpoints import compare
from helpers.families import ENCODERS, Case

import graphformer as gf

CASES = {**ENCODERS}
MODELS = [(name, model) for name, case in CASES.items() for model in case.models]


def made(make: Any, case: Case, model: str, dtype: torch.dtype = torch.float32) -> Any:
    return make(model, case.config, dtype, **case.sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "model"), MODELS)
def test_outputs_and_gradients(make, tmp_path, name: str, model: str, dtype: torch.dtype):
    case = CASES[name]
    theirs = made(make, case, model, dtype)
    source = theirs
    if dtype == torch.float64:
        theirs.save_pretrained(tmp_path, max_shard_size="12KB")
        source = tmp_path
    tolerance = 5e-5 if dtype == torch.float32 else 1e-11
    compare(theirs, gf.from_pretrained(source), pad=case.pad, tolerance=tolerance)


@pytest.mark.parametrize(("name", "model"), MODELS)
def test_there_and_back(make, transformers, tmp_path, name: str, model: str):
    theirs = made(make, CASES[name], model)
    ours = gf.from_pretrained(theirs)
    ours.save_pretrained(tmp_path)
    again, report = getattr(transformers, model).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    expected = theirs.state_dict()
    assert again.state_dict().keys() == expected.keys()
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, expected[key]), key
    twice = gf.from_pretrained(tmp_path).state_dict()
    for key, tensor in ours.state_dict().items():
        assert torch.equal(twice[key], tensor), key
