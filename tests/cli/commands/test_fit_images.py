"""Fine-tuning at another resolution: learned positions are interpolated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.cli import main

EXPERIMENT = """\
# Small images in folders.
model:
  class_path: Classification
  init_args:
    network:
      class_path: graphformer.models.vit
      init_args: {dim: 12, depth: 1, num_heads: 2, pool: cls, positions: learned}
    adjacency: Grid
data:
  class_path: ImageFolder
  init_args: {path: pets, patch_size: 4, batch_size: 5, size: [8, 12]}
trainer: {accelerator: cpu, max_steps: 2, limit_val_batches: 1, enable_progress_bar: false}
"""


@pytest.fixture
def pets(workplace: Path) -> Path:
    image = pytest.importorskip("PIL.Image", reason="image files need Pillow")
    for label, name in enumerate(("cats", "dogs")):
        (workplace / "pets" / name).mkdir(parents=True)
        for i in range(7):
            pixels = np.random.default_rng(i).integers(0, 120, (8, 8, 3), dtype=np.uint8)
            image.fromarray(pixels + 100 * label).save(workplace / "pets" / name / f"{i}.png")
    (workplace / "pets.yaml").write_text(EXPERIMENT)
    return workplace


def table(folder: Path) -> torch.Tensor:
    path = folder / "checkpoints" / "last.ckpt"
    weights = torch.load(path, weights_only=True)["state_dict"]
    return weights["network.embedding.positions.table"]


def test_a_run_goes_on_at_another_resolution(pets: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["fit", "-c", "pets.yaml"]) == 0
    (small,) = (pets / "runs" / "pets").iterdir()
    assert table(small).shape == (2, 3, 12)
    again = ["fit", "-c", "pets.yaml", "--model.pretrained", str(small), "--model.lr", "1e-9"]
    assert main([*again, "--data.size", "[16, 20]"]) == 0
    (large,) = set((pets / "runs" / "pets").iterdir()) - {small}
    wide = table(large)
    assert wide.shape == (4, 5, 12)
    image = table(small).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(image, size=(4, 5), mode="bicubic")
    torch.testing.assert_close(wide, expected[0].permute(1, 2, 0), atol=1e-6, rtol=0)
    assert main(["test", "--ckpt", str(large)]) == 0


def test_what_a_builder_refuses_is_one_line(pets: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["fit", "-c", "pets.yaml", "--data.size", "null"]) == 2
    error = capsys.readouterr().err
    assert "shape: got None, expected the rows" in error
    assert error.count("\n") == 1


def test_bad_folders_are_one_line(pets: Path, capsys: pytest.CaptureFixture[str]):
    (pets / "pets" / "emus").mkdir()
    assert main(["fit", "-c", "pets.yaml"]) == 2
    error = capsys.readouterr().err
    assert "emus: got no images, expected one or more" in error
    assert error.count("\n") == 1
    (pets / "pets" / "emus").rmdir()
    for file in (pets / "pets" / "dogs").iterdir():
        file.write_bytes(b"no image")
    assert main(["fit", "-c", "pets.yaml"]) == 2
    error = capsys.readouterr().err
    assert "got no image that can be read" in error
    assert error.count("\n") == 1


def test_predictions_name_the_files(pets: Path):
    assert main(["fit", "-c", "pets.yaml"]) == 0
    (run,) = (pets / "runs" / "pets").iterdir()
    assert main(["predict", "--ckpt", str(run), "--output", "a.csv"]) == 0
    assert main(["predict", "--ckpt", str(run), "--output", "a.pt"]) == 0
    header, *lines = [line.split(",") for line in (pets / "a.csv").read_text().splitlines()]
    assert header[:2] == ["file", "class"]
    rows = torch.load(pets / "a.pt", weights_only=True)
    assert len(lines) == len(rows)
    for (name, best, *values), row in zip(lines, rows, strict=True):
        assert (pets / "pets" / name).is_file()
        assert [float(value) for value in values] == pytest.approx(row.softmax(0).tolist())
        assert header[2 + int(row.argmax())] == f"probability_{best}"
    assert len({name for name, *_ in lines}) == len(lines)
