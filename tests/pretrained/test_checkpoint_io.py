"""Tensor readers: safetensors files against the safetensors library, and malformed files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from graphformer.pretrained.checkpoint_io import (
    DTYPES,
    OverlayReader,
    SafetensorsReader,
    StateDictReader,
    read_json,
)


def read(reader, key: str) -> torch.Tensor:
    out = torch.empty(reader.get_shape(key), dtype=reader.get_dtype(key))
    reader.read_into(key, out)
    return out


def write(file: Path, header: object, data: bytes = b"") -> None:
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_dtype_is_read(tmp_path, dtype: torch.dtype):
    tensor = (torch.arange(21) % 2 if dtype == torch.bool else torch.arange(21)).view(3, 7)
    tensors = {"x": tensor.to(dtype), "empty": torch.empty(0, 5, dtype=dtype)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    reader = SafetensorsReader(tmp_path)
    assert set(reader.keys()) == {"x", "empty"}
    for key, expected in tensors.items():
        assert reader.get_shape(key) == tuple(expected.shape)
        assert reader.get_dtype(key) == dtype
        assert torch.equal(read(reader, key), expected)


def test_destinations_of_other_dtypes_and_strides(folder):
    reader, key = SafetensorsReader(folder), "embeddings.word_embeddings.weight"
    expected = load_file(folder / "model.safetensors")[key]
    wide = torch.empty(29, 10, dtype=torch.float64)
    reader.read_into(key, wide)
    assert torch.equal(wide, expected.double())
    transposed = torch.empty(10, 29)
    reader.read_into(key, transposed.T)
    assert torch.equal(transposed, expected.T)
    rows = torch.zeros(31, 10)
    reader.read_into(key, rows[1:30])
    assert torch.equal(rows[1:30], expected)
    assert not rows[0].any()
    assert not rows[30].any()


def test_shards_are_one_reader(shards):
    reader = SafetensorsReader(shards)
    expected = {**load_file(shards / "a.safetensors"), **load_file(shards / "b.safetensors")}
    assert set(reader.keys()) == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(read(reader, key), tensor)


def test_a_state_dict_and_an_overlay():
    base = StateDictReader({"a": torch.ones(2), "b": torch.zeros(3, dtype=torch.int64)})
    assert base.keys() == ["a", "b"]
    assert torch.equal(read(base, "b"), torch.zeros(3, dtype=torch.int64))
    overlay = OverlayReader(base, {"c": torch.full((5,), 7.0)})
    assert overlay.keys() == ["a", "b", "c"]
    assert (overlay.get_shape("c"), overlay.get_dtype("b")) == ((5,), torch.int64)
    assert torch.equal(read(overlay, "c"), torch.full((5,), 7.0))
    assert torch.equal(read(overlay, "a"), torch.ones(2))


def test_a_missing_shard(shards):
    (shards / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks b\.safetensors, expected all 2 shards"):
        SafetensorsReader(shards)


def test_a_tensor_in_two_shards(shards):
    save_file(load_file(shards / "a.safetensors"), shards / "b.safetensors")
    with pytest.raises(ValueError, match="which another shard has too"):
        SafetensorsReader(shards)


def test_indexes_that_do_not_match_their_shards(shards):
    index = shards / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": weight_map | {"encoder.more": "a.safetensors"}}))
    with pytest.raises(ValueError, match=r"not in their shards: encoder\.more"):
        SafetensorsReader(shards)
    index.write_text(json.dumps({"weight_map": {"x": "../elsewhere.safetensors"}}))
    with pytest.raises(ValueError, match="expected file names in the same folder"):
        SafetensorsReader(shards)
    for content in ("[]", "{}", '{"weight_map": []}'):
        index.write_text(content)
        with pytest.raises(ValueError, match="got no 'weight_map'"):
            SafetensorsReader(shards)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin only.*save_pretrained"):
        SafetensorsReader(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"got no weights, expected model\.safetensors"):
        SafetensorsReader(folder)


@pytest.mark.parametrize("size", [0, 5, 100, 5_000])
def test_truncated_files(folder, size: int):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    match = r"model\.safetensors is truncated or not a safetensors file"
    with pytest.raises(ValueError, match=match):
        SafetensorsReader(folder)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ([], "not a JSON object"),
        ({"x": {"dtype": "F32", "shape": [1]}}, "no location of x"),
        ({"x": {"dtype": "F32", "shape": ["a"], "data_offsets": [0, 4]}}, "no location of x"),
        ({"x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, "dtype F8_E4M3 of x"),
        ({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, "4 bytes for the shape"),
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, "4 bytes for the shape"),
        ({"x": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}}, "should end at byte"),
    ],
)
def test_malformed_headers(tmp_path, header: object, match: str):
    write(tmp_path / "model.safetensors", header, bytes(4))
    with pytest.raises(ValueError, match=match):
        SafetensorsReader(tmp_path)


def test_a_header_that_is_not_json(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"{" * 200)
    with pytest.raises(ValueError, match="its header is not JSON"):
        SafetensorsReader(tmp_path)


def test_a_file_that_shrinks_after_its_header_was_read(folder):
    reader = SafetensorsReader(folder)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    last = max(reader.tensors, key=lambda key: reader.tensors[key].offset)
    with pytest.raises(ValueError, match="the file ended while it was read"):
        read(reader, last)


def test_json(tmp_path):
    (tmp_path / "x.json").write_text('{"ä": 5}', encoding="utf-8")
    assert read_json(tmp_path / "x.json") == {"ä": 5}
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ValueError, match=r"x\.json: got malformed JSON"):
        read_json(tmp_path / "x.json")
