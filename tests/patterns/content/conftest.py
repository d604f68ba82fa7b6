"""The forms in which edges made from content are computed."""

import pytest

from graphformer.adjacency import RowEdges


@pytest.fixture(params=["lists", "flash", "dense"])
def value_width(request, monkeypatch):
    """Width of the values: tiles run by flash attention where it is that of the queries.

    Without lists, LSH gives tiles and NearestNeighbors the edges of each head, as on a GPU.
    """
    if request.param != "lists":
        monkeypatch.setattr(RowEdges, "is_supported", staticmethod(lambda q: False))
    return 5 if request.param == "flash" else 3
