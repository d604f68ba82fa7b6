"""Rings: the label is the class of the node on the other side."""

from __future__ import annotations

import pytest

from graphformer.data import RingTransfer


def test_rings_hide_the_answer_on_the_other_side() -> None:
    data = RingTransfer(num_nodes=7, num_classes=3, batch_size=5, train_size=11, test_size=11)
    places = set()
    for batch in data.train_dataloader():
        assert batch.x.shape[1] == data.num_features == 5
        for ring in batch.to_data_list():
            target = int((ring.y >= 0).nonzero())
            source = (target + 3) % 7
            assert ring.x[target, -2] == ring.x[source, -1] == 1
            assert ring.x[:, -2:].sum() == 2
            assert ring.x[source, : data.num_classes].argmax() == ring.y[target]
            assert ring.edge_index.shape == (2, 14)
            places.add(target)
    assert len(places) > 2
    with pytest.raises(ValueError, match="num_nodes: got 3, expected 4 or more"):
        RingTransfer(num_nodes=3)
    with pytest.raises(ValueError, match="num_classes: got 1, expected 2 or more"):
        RingTransfer(num_classes=1)


def test_rings_depend_on_the_seed_and_the_split() -> None:
    def labels(split: str, **options: int) -> list[int]:
        data = RingTransfer(num_nodes=5, train_size=13, test_size=13, **options)
        return next(iter(data.batches(split))).y.tolist()

    assert labels("test") == labels("test")
    assert labels("test") != labels("val")
    assert labels("test") != labels("test", seed=1)
