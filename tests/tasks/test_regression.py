"""Errors of real-valued targets."""

from __future__ import annotations

import pytest
import torch
from helpers.tasks import Batches, Linear, node_batch, trainer

from graphformer.tasks import Regression


def test_regression_metrics():
    batch = node_batch(11, 0)
    batch.y = torch.randn(11)
    task = Regression(Linear(outputs=1), level="node", loss="mae")
    (result,) = trainer().test(task, Batches([batch]), verbose=False)
    with torch.no_grad():
        error = task(batch)[:, 0] - batch.y
    assert result["test/mae"] == pytest.approx(error.abs().mean().item(), rel=1e-5)
    assert result["test/rmse"] == pytest.approx(error.square().mean().sqrt().item(), rel=1e-5)
