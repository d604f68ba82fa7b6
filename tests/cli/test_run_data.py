"""The data, the image encoder and the features of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.images import patch_batch, random_captions, random_images
from torch import nn
from torch_geometric.data import Data

from graphformer import models, patterns
from graphformer.cli.errors import UsageError
from graphformer.cli.run_data import extract_images, features, image_encoder, restore_data
from graphformer.data.batch import pack_tokens

SIZE = {"channels": 3, "patch_size": 2}
GRID = patterns.Grid(1)
TASK = patterns.Complete()


@pytest.mark.parametrize(
    ("network", "part", "adjacency"),
    [
        (lambda: models.vit(3, 12, 1, 3, **SIZE), lambda m: m, TASK),
        (lambda: models.mae(12, 1, 3, **SIZE), lambda m: m.encoder, TASK),
        (
            lambda: models.clip(11, **SIZE, dim=12, num_heads=3, image_adjacency=GRID),
            lambda m: m.image,
            GRID,
        ),
        (
            lambda: models.captioner(11, **SIZE, dim=12, num_heads=3, source_adjacency=GRID),
            lambda m: m.encoder,
            GRID,
        ),
        (
            lambda: models.recurrent_captioner(11, **SIZE, dim=12, source_adjacency=GRID),
            lambda m: m.encoder,
            GRID,
        ),
    ],
)
def test_the_encoder_of_each_network(network, part, adjacency):
    model = network()
    encoder, pattern = image_encoder(model, TASK)
    assert encoder is part(model)
    assert pattern is adjacency


def test_networks_without_images_are_refused():
    for network in (nn.Linear(3, 5), models.encoder_decoder(11, dim=12, depth=1, num_heads=3)):
        with pytest.raises(UsageError, match="reads no images"):
            image_encoder(network, TASK)


def test_images_are_taken_from_both_kinds_of_batches():
    images, captions = patch_batch(random_images()), random_captions()
    assert extract_images(images) is images
    assert torch.equal(extract_images(captions).x, images.x)
    with pytest.raises(UsageError, match="are no images"):
        extract_images(pack_tokens([[1, 2]]))


@pytest.mark.parametrize(("pool", "registers"), [("mean", 0), ("mean", 2), ("cls", 1)])
def test_features_are_what_the_head_pools(pool, registers):
    torch.manual_seed(0)
    model = models.vit(7, 12, 1, 3, **SIZE, pool=pool, registers=registers).eval()
    batch = patch_batch(random_images())
    with torch.inference_mode():
        found = features(model, GRID, batch)
        torch.testing.assert_close(model.head.linear(found), model(batch, GRID(batch)))


@pytest.fixture(autouse=True)
def _no_deprecations_of_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # as the command does


DIGITS = "{class_path: Digits, init_args: {patch_size: 2}}"


def checkpoint(path: Path, data: str = DIGITS, **state: object) -> Path:
    """A file with the settings of a run of seed 5, by default on digits, and their state."""
    from graphformer.cli.callbacks import CONFIG_KEY

    settings = f"seed_everything: 5\nmodel: {{}}\ndata: {data}\n"
    content = {CONFIG_KEY: settings, "Digits": state, "state_dict": {}}
    torch.save(content, path / "run.ckpt")
    return path / "run.ckpt"


def test_data_of_a_run_is_scaled_as_in_training(tmp_path: Path) -> None:
    run = checkpoint(tmp_path, mean=[3.0], std=[7.0])
    (tmp_path / "other.yaml").write_text("data: {class_path: Digits, init_args: {patch_size: 4}}")
    for config, patch_size in ((None, 2), (str(tmp_path / "other.yaml"), 4)):
        data = restore_data(run, config, label_fraction=0.1)
        assert (data.patch_size, data.label_fraction) == (patch_size, 0.1)
        assert (data.mean.tolist(), data.std.tolist()) == ([3.0], [7.0])
    assert restore_data(checkpoint(tmp_path)).mean != [3.0]


@pytest.mark.parametrize("kind", ["LinkFile", "NodeFile"])
def test_data_is_split_by_the_seed_of_the_run_as_in_training(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = torch.arange(31)
    edge_index = torch.stack([nodes, (nodes + 1) % 31])
    edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    torch.save(Data(x=torch.eye(31), y=nodes % 2, edge_index=edge_index), tmp_path / "own.pt")
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)  # as in a new process
    given = f"{{class_path: {kind}, init_args: {{path: {tmp_path}/own.pt, seed: SEED}}}}"
    run, five, zero = (
        restore_data(checkpoint(tmp_path, given.replace("SEED", seed))).graph
        for seed in ("null", "5", "0")
    )
    field = "test_mask" if kind == "NodeFile" else "test_edge_label_index"
    assert torch.equal(run[field], five[field])
    assert not torch.equal(run[field], zero[field])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data]", "has no section data"),
        ("data: {class_path: [Digits", "is no YAML"),
        ("data: {class_path: Digitz}", "unknown name 'Digitz': did you mean 'Digits'"),
        (
            "data: {class_path: Scenes, init_args: {source: digits}}",
            "got Scenes, which has no label_fraction",
        ),
    ],
)
def test_wrong_files_of_data_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        restore_data(checkpoint(tmp_path), str(tmp_path / "data.yaml"), label_fraction=0.1)
