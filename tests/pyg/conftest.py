"""Fixtures for tests of layers and whole models."""

from __future__ import annotations

import pytest
from helpers.twins import LAYERS


@pytest.fixture
def fused(monkeypatch):
    """A function that makes PyG's own forward raise, so that only the fused one passes."""

    def refuse(*args, **kwargs):
        raise AssertionError("PyG's own forward ran")

    def arm():
        for kind in LAYERS:
            monkeypatch.setattr(kind, "propagate", refuse)

    return arm
