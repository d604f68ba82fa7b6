"""Settings, weights and tokenizer of a checkpoint, and what a resumed run may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.runs import Run, fit_language_model

from graphformer.cli import main
from graphformer.cli.callbacks import CONFIG_KEY
from graphformer.cli.checkpoints import (
    chat_encoder,
    check_resumable,
    load_text_model,
    restore_task,
    restore_text_tokenizer,
    store_temperature,
    stored_config,
)
from graphformer.cli.config.imports import name_modules
from graphformer.cli.errors import UsageError
from graphformer.data import load_tokenizer
from graphformer.models import gat
from graphformer.patterns import Causal, Complete
from graphformer.tasks import Classification
from graphformer.tasks.classification import TEMPERATURE_KEY


def test_whole_settings_and_those_of_model_and_data(trained: Run):
    whole = yaml.safe_load(stored_config(trained.last, whole=True))
    assert whole["trainer"]["max_epochs"] == 2
    part = yaml.safe_load(stored_config(trained.last, whole=False))
    assert part == {key: whole[key] for key in ("seed_everything", "model", "data")}


def test_task_has_the_weights_and_is_in_evaluation_mode(trained: Run):
    task = restore_task(trained.last)
    assert isinstance(task, Classification)
    assert not task.training
    assert task.adjacency == Complete()
    weights = torch.load(trained.last, weights_only=True)["state_dict"]
    assert task.state_dict().keys() == weights.keys()
    assert all(torch.equal(task.state_dict()[name], weights[name]) for name in weights)


def test_settings_of_an_earlier_release_are_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    network = gat(3, 2, dim=5, depth=2, num_heads=1, num_union_parts=2)
    sizes = {"num_features": 3, "num_classes": 2, "dim": 5, "depth": 2, "num_heads": 1}
    init_args = {
        "network": {
            "class_path": "graphformer.models.gat",
            "init_args": {**sizes, "num_edge_kinds": 2},
        },
        "num_classes": 2,
    }
    model = {"class_path": "graphformer.tasks.Classification", "init_args": init_args}
    settings = {"seed_everything": 1, "model": model, "data": {}}
    state = {f"network.{name}": weight for name, weight in network.state_dict().items()}
    path = tmp_path / "old.ckpt"
    torch.save({CONFIG_KEY: yaml.safe_dump(settings), "state_dict": state}, path)
    restored = restore_task(path).network
    assert all(torch.equal(restored.state_dict()[n], w) for n, w in network.state_dict().items())
    assert capsys.readouterr().err.count("num_edge_kinds -> num_union_parts") == 1


def test_tokenizer_is_in_the_checkpoint(text_folder: Path):
    run = fit_language_model("--data.vocabulary", "characters")
    checkpoint = run / "checkpoints" / "last.ckpt"
    tokenizer = restore_text_tokenizer(checkpoint)
    stored = load_tokenizer(run / "tokenizer.json")
    assert tokenizer.encode("seven").tolist() == stored.encode("seven").tolist()


def test_images_have_no_tokenizer(trained: Run):
    with pytest.raises(UsageError, match="last.ckpt contains no tokenizer: it was not trained on"):
        restore_text_tokenizer(trained.last)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 broken archive"])
def test_unreadable_file(tmp_path: Path, content: bytes):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    for read in (lambda: stored_config(path, whole=True), lambda: restore_task(path)):
        with pytest.raises(UsageError, match=r"x\.ckpt is not a readable checkpoint: ") as error:
            read()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], torch.zeros(3)])
def test_checkpoint_of_another_program(tmp_path: Path, content: Any):
    path = tmp_path / "x.ckpt"
    torch.save(content, path)
    with pytest.raises(UsageError, match=r"x\.ckpt (contains no settings|is not a readable)"):
        stored_config(path, whole=False)


STORED = {
    "seed_everything": 1,
    "model.class_path": "Classification",
    "model.init_args.lr": 0.1,
    "model.init_args.adjacency.class_path": "Complete",
    "data.init_args.batch_size": 7,
    "data.init_args.root": "/a",
    "trainer.max_epochs": 3,
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"model.init_args.adjacency.class_path": "Window"},
        {"model.init_args.adjacency.init_args.radius": 3},
        {"data.init_args.root": "/b"},
        {"data.init_args.num_workers": 2},
        {"trainer.max_epochs": 5},
        {"trainer.devices": 2, "data.init_args.batch_size": 3},
    ],
)
def test_changes_that_a_resumed_run_accepts(change: dict[str, Any]):
    check_resumable(STORED, {**STORED, **change}, Path("x.ckpt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed_everything": 2}, "seed_everything is 1 in the checkpoint, not 2"),
        ({"model.class_path": "Regression"}, "model is 'Classification' in the checkpoint, not"),
        ({"model.init_args.lr": 0.2}, "model.lr is 0.1 in the checkpoint, not 0.2"),
        ({"model.init_args.new": 2}, "model.new is None in the checkpoint, not 2"),
        ({"data.init_args.batch_size": 9}, "data.batch_size is 7 in the checkpoint, not 9"),
    ],
)
def test_changes_that_a_resumed_run_refuses(change: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        check_resumable(STORED, {**STORED, **change}, Path("x.ckpt"))


def test_all_refused_changes_are_in_one_message():
    changed = {**STORED, "seed_everything": 2, "model.init_args.lr": 0.2, "trainer.max_epochs": 9}
    with pytest.raises(UsageError) as error:
        check_resumable(STORED, changed, Path("x.ckpt"))
    assert "not 0.2; seed_everything" in str(error.value)
    assert "trainer" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model.lr", "0.5"], "model.lr is 0.01 in the checkpoint, not 0.5"),
        (["--seed_everything", "7"], "seed_everything is 42 in the checkpoint, not 7"),
        (["--data.batch_size", "32"], "data.batch_size is 64 in the checkpoint, not 32"),
        (["--model.network.dim", "24"], "model.network.dim is 12 in the checkpoint, not 24"),
    ],
)
def test_settings_that_a_resumed_run_cannot_honour(
    trained: Run,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
):
    assert main(["fit", "--ckpt", str(trained.last), *arguments]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert not (workplace / "runs").exists()


def test_run_can_be_prolonged_and_take_another_adjacency(trained: Run, workplace: Path):
    arguments = ["fit", "--ckpt", str(trained.last), "--trainer.max_epochs", "3"]
    assert main([*arguments, "--adjacency", "SelfLoops"]) == 0
    (folder,) = (workplace / "runs" / "tiny").iterdir()
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 21


def test_finished_run_has_nothing_left(
    trained: Run, workplace: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["fit", "--ckpt", str(trained.last)]) == 2
    assert "is finished: raise --trainer.max_epochs" in capsys.readouterr().err


def test_foreign_checkpoint(workplace: Path, capsys: pytest.CaptureFixture[str]):
    torch.save({"state_dict": {}}, "foreign.ckpt")
    assert main(["test", "--ckpt", "foreign.ckpt"]) == 2
    assert "contains no settings" in capsys.readouterr().err


def stored(folder: Path, **changes: Any) -> Path:
    """A checkpoint that has settings alone."""
    settings = {
        "seed_everything": 1,
        "model": {"class_path": "graphformer.tasks.Classification"},
        "data": {"class_path": "graphformer.data.ImageFolder", "init_args": {"path": "x"}},
    }
    path = folder / "x.ckpt"
    torch.save({"state_dict": {}, CONFIG_KEY: yaml.safe_dump({**settings, **changes})}, path)
    return path


def test_a_run_of_an_earlier_release_keeps_its_splits(tmp_path: Path):
    def stratify(path: Path) -> bool:
        return yaml.safe_load(stored_config(path, whole=False))["data"]["init_args"]["stratify"]

    assert not stratify(stored(tmp_path))
    data = {"class_path": "ImageFolder", "init_args": {"path": "x", "stratify": True}}
    assert stratify(stored(tmp_path, data=data))


def test_a_checkpoint_imports_only_what_is_trusted(tmp_path: Path):
    path = stored(tmp_path, model={"class_path": "antigravity.Net"})
    for arguments in ([], ["--trust=this"], ["--model.network.depth", "3.5"]):
        assert name_modules(arguments) == [a for a in arguments if "trust" not in a]
        with pytest.raises(UsageError, match="import antigravity.Net.* add --trust antigravity"):
            stored_config(path, whole=True)
    (tmp_path / "own.yaml").write_text("model: {class_path: antigravity.Net}")
    try:
        for arguments in (
            ["--trust", "antigravity"],
            ["--model", "antigravity.Net"],
            ["-c", str(tmp_path / "own.yaml")],
        ):
            name_modules(arguments)
            assert "antigravity" in stored_config(path, whole=True)
    finally:
        name_modules([])
    with pytest.raises(UsageError, match="--trust needs a value"):
        name_modules(["--trust"])


def test_settings_of_a_checkpoint_are_plain_yaml(tmp_path: Path):
    torch.save({"state_dict": {}, CONFIG_KEY: "a: !!python/name:os.system"}, tmp_path / "x.ckpt")
    with pytest.raises(UsageError, match=r"x\.ckpt: got settings that are not plain YAML"):
        stored_config(tmp_path / "x.ckpt", whole=True)


def settings_file(path: Path, text: str, **content: Any) -> Path:
    """A checkpoint with these settings and no weights."""
    torch.save({CONFIG_KEY: text, "state_dict": {}, **content}, path / "some.ckpt")
    return path / "some.ckpt"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model, data]", "settings without seed_everything or model or data"),
        ("{model: {}, data: {}}", "settings without seed_everything or model or data"),
        (
            "{seed_everything: 1, model: {}, data: {}, not_stored: [network]}",
            "network: ",
        ),
    ],
    ids=["list", "no seed", "not stored"],
)
def test_settings_that_cannot_be_used_are_refused(text: str, message: str, tmp_path: Path):
    with pytest.raises(UsageError, match=message):
        stored_config(settings_file(tmp_path, text), whole=False)


def test_weights_of_another_network_are_refused(trained: Run, tmp_path: Path):
    checkpoint = torch.load(trained.last, weights_only=True)
    first = next(iter(checkpoint["state_dict"]))
    checkpoint["state_dict"][first] = torch.zeros(1, 2, 3, 5)
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(UsageError, match="got weights of another network: .*size mismatch"):
        restore_task(tmp_path / "other.ckpt")


def test_a_temperature_is_stored_beside_the_rest(trained: Run, tmp_path: Path):
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(trained.last.read_bytes())
    store_temperature(copy, 1.75)
    before = torch.load(trained.last, weights_only=True)
    after = torch.load(copy, weights_only=True)
    assert after.keys() - before.keys() == {TEMPERATURE_KEY}
    assert after[TEMPERATURE_KEY] == 1.75
    assert all(torch.equal(after["state_dict"][k], v) for k, v in before["state_dict"].items())


def test_a_checkpoint_without_a_tokenizer_is_no_model_of_texts(trained: Run):
    with pytest.raises(UsageError, match="contains no tokenizer"):
        load_text_model(str(trained.last), "generate")


def test_a_run_on_text_is_a_model_that_cannot_chat_without_a_template(text_folder: Path):
    run = fit_language_model()
    model = load_text_model(str(run), "generate")
    assert model.adjacency == Causal()
    assert model.tokenizer.encode("seven").ndim == 1
    with pytest.raises(UsageError, match="--chat: got a model without a chat template"):
        chat_encoder(model.tokenizer)
