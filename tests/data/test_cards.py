from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from graphformer.data.base import DataModule

CARDS = sorted((Path(__file__).parents[2] / "datasets").glob("*.yaml"))
FIELDS = ["what", "source", "licence", "citation"]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_card_is_complete_and_its_data_module_can_be_made(card: Path) -> None:
    text = card.read_text()
    assert [field for field in FIELDS if f"\n# {field}:" not in text] == []
    module, _, name = yaml.safe_load(text)["data"]["class_path"].rpartition(".")
    assert issubclass(getattr(import_module(module), name), DataModule)
    parser = ArgumentParser()
    parser.add_argument("--data", type=DataModule)
    config = parser.parse_object(yaml.safe_load(text))
    data = parser.instantiate(config).data
    written = yaml.safe_load(text)["data"]["init_args"]
    assert {key: data.hparams[key] for key in written} == written


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_checksums_are_those_of_the_real_files(
    card: Path, real_data: Callable[[str], Path]
) -> None:
    text = card.read_text()
    found = re.search(r"# files:\s+under <root>/(\S+), with sha256:", text)
    if found is None:
        pytest.skip(f"{card.name} lists no sha256")
    folder = real_data(found[1])
    entries = re.findall(r"#   (\S+)  ([\d,]+) bytes\n#     ([0-9a-f]{64})", text)
    assert entries
    for name, size, checksum in entries:
        content = (folder / name).read_bytes()
        assert len(content) == int(size.replace(",", ""))
        assert hashlib.sha256(content).hexdigest() == checksum


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_hyper_parameters_are_plain_types(card: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(card.read_text())["data"]
    module, _, name = config["class_path"].rpartition(".")
    kind = getattr(import_module(module), name)
    arguments = dict(config["init_args"])
    if "root" in kind.__init__.__annotations__:
        arguments["root"] = tmp_path  # a path given in Python is kept as text
    torch.save(dict(kind(**arguments).hparams), tmp_path / "hparams.pt")
    loaded = torch.load(tmp_path / "hparams.pt", weights_only=True)
    assert config["init_args"].items() <= loaded.items()
