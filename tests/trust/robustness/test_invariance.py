"""Changes that keep the meaning: texts, moved and turned images, renumbered nodes."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from graphformer import models
from graphformer.patterns import Edges
from graphformer.trust.robustness.invariance import (
    renumbered,
    respaced,
    rotated,
    shifted,
    written_out,
)


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("it isn't so", "it is not so"),
        ("he ca n't go", "he can not go"),
        ("I won't, can't", "I will not, can not"),
        ("they 're here, we've seen", "they are here, we have seen"),
        ("I'm sure she'll come", "I am sure she will come"),
        ("the dog's bone", "the dog's bone"),
    ],
)
def test_contractions_are_written_out(short: str, full: str):
    assert written_out(short) == full


def test_blanks_are_doubled():
    assert respaced("a b c") == "a  b  c"


def test_images_are_moved_by_whole_pixels():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    assert shifted(image, 1, 0)[0, 0].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert shifted(image, 0, 1)[0, 0, 0].tolist() == [0, 0, 1, 2]
    assert torch.equal(shifted(image, 0, 0), image)


def test_a_quarter_turn_of_an_oblong_image():
    image = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    turned = rotated(image, 90.0)
    assert any(torch.allclose(turned, image.rot90(k, (2, 3)), atol=1e-5) for k in (1, 3))
    oblong = torch.rand(1, 1, 5, 7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(rotated(oblong, 180.0), oblong.rot90(2, (2, 3)))
    # A quarter turn moves the pixel above the centre to the left or right of it.
    point = torch.zeros(1, 1, 5, 7)
    point[0, 0, 1, 3] = 1.0
    assert (rotated(point, 90.0)[0, 0] > 0.99).nonzero().tolist() in ([[2, 2]], [[2, 4]])


def test_a_network_does_not_depend_on_the_numbers_of_the_nodes():
    generator = torch.Generator().manual_seed(0)
    graph = Data(
        x=torch.randn(11, 5, generator=generator),
        edge_index=torch.randint(11, (2, 29), generator=generator),
    )
    torch.manual_seed(0)
    network = models.gat(5, 3, dim=3, num_heads=2, depth=2).eval()
    order = torch.randperm(11, generator=generator)
    other = renumbered(graph, order)
    pattern = Edges(self_loops=True)
    first, second = network(graph, pattern(graph)), network(other, pattern(other))
    torch.testing.assert_close(second, first[order])
    assert not torch.equal(graph.x, other.x)
    for old, new in zip(graph.edge_index.T.tolist(), other.edge_index.T.tolist(), strict=True):
        assert [order[i].item() for i in new] == old
