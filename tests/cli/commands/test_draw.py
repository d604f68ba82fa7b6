"""`graphformer draw` and `graphformer probe`: pictures and features of runs over images."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from graphformer.cli import main
from graphformer.cli.plots.curves import read_curves

SCENES = """
data:
  class_path: Scenes
  init_args: {source: digits, num_samples: 40, val_size: 5, test_size: 11, batch_size: 10}
trainer: {accelerator: cpu, max_steps: 3, enable_progress_bar: false}
"""
DIGITS = """
data:
  class_path: Digits
  init_args: {patch_size: 2, batch_size: 64}
trainer: {accelerator: cpu, max_steps: 3, limit_val_batches: 1, enable_progress_bar: false}
"""
MODELS = {
    "mae": ("MaskedImageModeling", "mae, init_args: {dim: 12, depth: 1, num_heads: 2}", DIGITS),
    "caption": ("SequenceToSequence", "captioner, init_args: {dim: 12, num_heads: 2}", SCENES),
    "recurrent": ("SequenceToSequence", "recurrent_captioner, init_args: {dim: 12}", SCENES),
    "clip": ("ImageTextContrast", "clip, init_args: {dim: 12, num_heads: 2}", SCENES),
}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`run_of("mae")` gives the folder of a short run of that kind."""
    made: dict[str, Path] = {}

    def train(kind: str) -> Path:
        if kind not in made:
            home = tmp_path_factory.mktemp(kind)
            write(home / "tiny.yaml", *MODELS[kind])
            before = Path.cwd()
            os.chdir(home)
            try:
                assert main(["fit", "-c", "tiny.yaml"]) == 0
            finally:
                os.chdir(before)
            (made[kind],) = (home / "runs" / "tiny").iterdir()
        return made[kind]

    return train


def write(file: Path, task: str, network: str, rest: str) -> None:
    """Write the configuration of a run."""
    text = (
        f"model:\n  class_path: {task}\n  init_args:\n"
        f"    network: {{class_path: graphformer.models.{network}}}\n"
    )
    file.write_text(text + rest.lstrip("\n"))


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG file."""
    raw = path.read_bytes()
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")


@pytest.mark.parametrize("kind", MODELS)
def test_each_kind_of_run_has_its_picture(kind, run_of, workplace, capsys):
    assert main(["draw", "--ckpt", str(run_of(kind)), "--count", "3", "--out", "a.png"]) == 0
    assert min(size(workplace / "a.png")) > 150
    assert "wrote a.png" in capsys.readouterr().out


def test_attention_and_curves_of_a_classifier(trained, workplace):
    for what in ("attention", "curves"):
        assert main(["draw", "--ckpt", str(trained.folder), "--what", what]) == 0
        assert min(size(workplace / f"{what}.png")) > 150
    curves = read_curves(trained.folder)
    assert {"val/loss", "val/accuracy"} <= curves.keys()
    assert read_curves(trained.last) == curves


def test_the_picture_is_logged_to_tensorboard(run_of):
    pytest.importorskip("tensorboard", reason="pictures are logged where TensorBoard is installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_of("mae")))
    events.Reload()
    assert events.Tags()["images"] == ["reconstruction"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["draw", "--what", "words"], "words are drawn of a captioner's run"),
        (["draw", "--what", "retrieval"], "retrieval is drawn of a CLIP's run"),
        (["draw", "--what", "reconstruction"], "drawn of a masked autoencoder's run"),
        (["draw", "--what", "colours"], "draw: --what: invalid choice"),
        (["draw", "--count", "0"], "--count: got 0, expected an integer of 1 or more"),
        (["draw", "--out", "a.jpg"], "ends in .png"),
        (["draw", "--out", "no/a.png"], "--out: got no/a.png, but there is no folder no"),
        (["probe", "--labels", "2"], "--labels: got 2, expected a number above 0 and at most 1"),
        (["probe", "--method", "forest"], "probe: --method: invalid choice"),
        (["probe", "-c", "nothing.yaml"], "there is no configuration file 'nothing.yaml'"),
        (["probe", "-c", "other.yaml"], "unknown name 'Digitz': did you mean 'Digits'"),
        (["probe", "-c", "list.yaml"], "list.yaml has no section data"),
        (["probe", "-c", "torn.yaml"], "torn.yaml is no YAML"),
        (["probe", "-c", "small.yaml"], "expected patches [N, 16]; use images with the patch_size"),
        (["draw", "-c", "small.yaml"], "expected patches [N, 16]; use images with the patch_size"),
    ],
)
def test_wrong_use_is_one_line(arguments, message, trained, workplace, capsys):
    for name, text in {
        "other": "data: {class_path: Digitz}",
        "list": "[data]",
        "torn": "data: {class_path: [Digits",
        "small": "data: {class_path: Digits, init_args: {patch_size: 2}}",
    }.items():
        (workplace / f"{name}.yaml").write_text(text)
    command, *rest = arguments
    assert main([command, "--ckpt", str(trained.folder), *rest]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_commands_want_a_run_of_images(workplace, capsys):
    for command in ("draw", "probe"):
        assert main([command, "--ckpt", "nowhere"]) == 2
        assert "there is no checkpoint 'nowhere'" in capsys.readouterr().err
    assert main(["draw", "--ckpt", "nowhere", "--what", "curves"]) == 2
    assert "no metrics.csv" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["linear", "knn"])
def test_features_are_probed(method, trained, workplace, capsys):
    found = {}
    for labels in ("1", "0.02"):
        arguments = ["--ckpt", str(trained.folder), "--method", method, "--labels", labels]
        assert main(["probe", *arguments]) == 0
        out = capsys.readouterr().out
        count, _, score = re.search(r"([\d,]+) +│ ([\d.]+) +│ ([\d.]+)", out).groups()
        found[labels] = int(count.replace(",", "")), float(score)
    assert found["1"][0] == 1257
    assert found["1"][1] > 0.3
    assert 10 <= found["0.02"][0] < 40


def test_a_masked_autoencoder_is_probed_by_its_encoder(run_of, workplace, capsys):
    assert main(["probe", "--ckpt", str(run_of("mae")), "--labels", "0.1"]) == 0
    assert "linear" in capsys.readouterr().out
    (workplace / "digits.yaml").write_text(DIGITS)
    assert main(["probe", "--ckpt", str(run_of("mae")), "-c", "digits.yaml"]) == 0
    assert "1,257" in capsys.readouterr().out
    assert main(["probe", "--ckpt", str(run_of("caption"))]) == 2
    assert "Scenes has no label for each image" in capsys.readouterr().err


def test_retrieval_zero_shot_and_exact_match_are_told(run_of, workplace, capsys):
    assert main(["test", "--ckpt", str(run_of("clip"))]) == 0
    out = capsys.readouterr().out
    for name in ("image_recall@1", "text_recall@10", "zero_shot", "loss"):
        assert f"test/{name}" in out
    assert main(["test", "--ckpt", str(run_of("recurrent"))]) == 0
    assert "test/exact_match" in capsys.readouterr().out


def test_bleu_of_captions_is_told(run_of, workplace, capsys):
    pytest.importorskip("sacrebleu", reason="BLEU needs the extra 'text'")
    assert main(["test", "--ckpt", str(run_of("caption")), "--model.bleu", "true"]) == 0
    assert "test/bleu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "network", "rest", "message"),
    [
        ("MaskedImageModeling", "vit", DIGITS, "network: got ViT, expected one whose forward"),
        ("MaskedImageModeling", "mae", SCENES, "expected patches [N, F] of floating point"),
        (
            "ImageTextContrast",
            "vit, init_args: {num_classes: 3}",
            SCENES,
            "got vit, which is not a CLIP; Image",
        ),
    ],
)
def test_tasks_want_their_kind_of_network_and_data(task, network, rest, message, workplace, capsys):
    write(workplace / "wrong.yaml", task, network, rest)
    assert main(["fit", "-c", "wrong.yaml"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_gradients_of_batches_that_never_meet_are_refused(workplace, capsys):
    write(workplace / "clip.yaml", *MODELS["clip"])
    assert main(["fit", "-c", "clip.yaml", "--trainer.accumulate_grad_batches", "2"]) == 2
    assert "micro_batch_size" in capsys.readouterr().err


def test_images_of_one_class_are_no_task(workplace, trained, capsys):
    image = pytest.importorskip("PIL.Image", reason="image files need Pillow")
    (workplace / "one" / "cats").mkdir(parents=True)
    for i in range(7):
        image.new("L", (8, 8), 30 * i).save(workplace / "one" / "cats" / f"{i}.png")
    settings = "{path: one, patch_size: 4, channels: 1, val_fraction: 0.2, test_fraction: 0.2}"
    (workplace / "cats.yaml").write_text(
        f"data: {{class_path: ImageFolder, init_args: {settings}}}"
    )
    assert main(["probe", "--ckpt", str(trained.folder), "-c", "cats.yaml"]) == 2
    assert "of one class" in capsys.readouterr().err
