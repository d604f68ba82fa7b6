"""Repeated symbols: labels of the second half, lengths by stage, splits and errors."""

import pytest
import torch

from graphformer.data import RepeatedSymbols


def test_second_half_repeats_the_first_and_has_the_labels():
    data = RepeatedSymbols((10, 6), (3, 2), num_symbols=7, max_tokens=23, num_samples=5)
    assert data.vocab_size == 8
    batches = list(data.batches("train"))
    assert [batch.lengths for batch in batches] == [(10, 10)] * 3 + [(6, 6, 6)] * 2
    for batch in batches:
        length = batch.lengths[0]
        x, y = batch.x.view(-1, length), batch.y.view(-1, length)
        half = length // 2
        assert torch.equal(x[:, :half], x[:, half:])
        assert (x[:, 0] == 0).all()
        assert 1 <= x[:, 1:half].min() <= x[:, 1:half].max() <= 7
        assert torch.equal(y[:, half:-1], x[:, half + 1 :])
        assert (y[:, :half] == -100).all()
        assert (y[:, -1] == -100).all()
        assert batch.pos.tolist() == list(range(length)) * len(batch.lengths)


def test_splits_have_the_last_length_and_other_symbols():
    data = RepeatedSymbols((8, 50), (1, 1), max_tokens=100, num_samples=5)
    found = [list(data.batches(split)) for split in ("val", "test")]
    for batches in found:
        assert [batch.lengths for batch in batches] == [(50, 50), (50, 50), (50,)]
    firsts = [batch.x[1:25] for batch in (*found[0], *found[1], *list(data.batches("train"))[1:])]
    assert len({tuple(x.tolist()) for x in firsts}) == len(firsts)
    again = RepeatedSymbols((8, 50), (1, 1), max_tokens=100, num_samples=5)
    assert torch.equal(next(iter(again.batches("val"))).x, found[0][0].x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lengths": (8, 10)}, "^steps: got 1 numbers for 2 lengths"),
        ({"lengths": (), "steps": ()}, "^steps: got 0 numbers for 0 lengths"),
        ({"lengths": (7,)}, "^lengths: got .7., expected even numbers"),
        ({"steps": (0,)}, "^steps: got 0, expected 1 or more"),
        ({"num_symbols": 0}, "^num_symbols: got 0"),
        ({"max_tokens": 0}, "^max_tokens: got 0"),
        ({"num_samples": 0}, "^num_samples: got 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        RepeatedSymbols(**settings)
