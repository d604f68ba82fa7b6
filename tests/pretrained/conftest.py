"""Small models of `transformers` with drawn weights."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch


@pytest.fixture
def transformers() -> Any:
    """The library, or the test is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="needs the extra `models`: transformers")


@pytest.fixture
def make(transformers: Any) -> Any:
    """`make("BertModel", "BertConfig", dtype, **sizes)`: a model none of whose weights is plain."""

    def made(name: str, config: str, dtype: torch.dtype = torch.float32, **sizes: Any) -> Any:
        torch.manual_seed(20)
        model = getattr(transformers, name)(getattr(transformers, config)(**sizes))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model.to(dtype).eval()

    return made
