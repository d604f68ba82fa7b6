"""`list` shows what importing would show, and where the YAML files are."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_origin

import pytest
from torch.nn import Module

import graphformer.data
import graphformer.models
import graphformer.patterns
import graphformer.tasks
from graphformer.cli import main
from graphformer.cli.commands.list import catalog
from graphformer.cli.config import files as configs
from graphformer.cli.errors import UsageError
from graphformer.cli.run_dir import make_run_folder


def subclasses(module: object, base: type) -> set[str]:
    classes = inspect.getmembers(module, inspect.isclass)
    return {name for name, kind in classes if issubclass(kind, base) and kind is not base}


def answer_of(function) -> object:
    """What it is annotated to return; arguments may have types that only checkers import."""
    function = inspect.unwrap(function)
    return eval(function.__annotations__["return"], function.__globals__)


def test_sources_say_what_imports_say():
    sections = catalog()
    assert sections["tasks"].keys() == subclasses(graphformer.tasks, graphformer.tasks.Task)
    assert sections["patterns"].keys() == subclasses(
        graphformer.patterns, graphformer.patterns.Pattern
    )
    functions = inspect.getmembers(graphformer.models, inspect.isfunction)
    answers = {name: answer_of(f) for name, f in functions}
    builders = {n for n, a in answers.items() if get_origin(a) is None and issubclass(a, Module)}
    assert sections["networks"].keys() == builders
    modules = subclasses(graphformer.data, graphformer.data.base.DataModule)
    assert sections["data"].keys() == modules
    for section in sections.values():
        assert all(doc for doc in section.values())


def test_list_prints_one_section(capsys: pytest.CaptureFixture[str]):
    assert main(["list", "patterns"]) == 0
    text = capsys.readouterr().out
    assert "Window" in text
    assert "LanguageModeling" not in text


def test_shipped_files_are_found_by_path_and_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "experiments").mkdir()
    file = tmp_path / "experiments" / "gat_cora.yaml"
    file.write_text("# GAT on Cora\nmodel: x\n")
    monkeypatch.setattr(configs, "config_root", lambda: tmp_path)
    monkeypatch.chdir(tmp_path / "experiments")  # so that no such file is near
    for name in ("experiments/gat_cora.yaml", "gat_cora", str(file)):
        assert configs.find_config(name) == file
    assert configs.read_doc_line(file) == "GAT on Cora"
    with pytest.raises(UsageError, match=r"did you mean 'experiments/gat_cora.yaml'"):
        configs.find_config("experiments/gat_coral.yaml")


def test_local_file_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text("")
    assert configs.find_config("x.yaml") == Path("x.yaml")


def test_run_folders_never_clash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    folders = [make_run_folder(tmp_path, "x") for _ in range(7)]
    assert len({*folders}) == 7
    assert all(folder.is_dir() and folder.parent == tmp_path / "x" for folder in folders)


def test_processes_of_one_run_share_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = make_run_folder(tmp_path, "x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert make_run_folder(tmp_path, "x") == first
