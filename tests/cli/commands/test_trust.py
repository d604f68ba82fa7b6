"""`graphformer trust`: the files of a report, and the temperature that `predict` then uses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.runs import Run

from graphformer.cli import main
from graphformer.cli.checkpoints import restore_task
from graphformer.cli.commands.trust import SECTION_NAMES
from graphformer.tasks.stored_settings import CONFIG_KEY
from graphformer.trust.sections import SECTIONS


@pytest.fixture
def copied(trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder of a run, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained.folder, tmp_path / "run"))


def test_the_parser_names_all_sections():
    assert set(SECTION_NAMES) == set(SECTIONS)


def test_a_report_and_the_temperature_of_predictions(copied: Path, capsys):
    predict = ["predict", "--ckpt", "run", "--output"]
    assert main([*predict, "before.pt"]) == 0
    assert main(["trust", "--ckpt", "run", "--only", "calibration", "--out", "a/report"]) == 0
    content = json.loads(Path("a/report/report.json").read_text())
    temperature = content["sections"]["calibration"]["metrics"]["temperature"]
    assert content["facts"]["task"] == "Classification"
    assert "<svg" in Path("a/report/report.html").read_text()
    assert Path("a/report/README.md").read_text().startswith("---\nlibrary_name: graphformer")
    assert "stored the temperature" in capsys.readouterr().out
    assert main([*predict, "after.pt"]) == 0
    assert torch.equal(torch.load("after.pt"), torch.load("before.pt") / temperature)
    assert restore_task(copied / "checkpoints" / "best.ckpt").temperature == temperature


def test_a_resumed_run_drops_the_temperature(copied: Path):
    last = copied / "checkpoints" / "last.ckpt"
    assert main(["trust", "--ckpt", str(last), "--only", "calibration"]) == 0
    assert "temperature" in torch.load(last)
    assert main(["fit", "--ckpt", str(last), "--trainer.max_epochs", "3"]) == 0
    (folder,) = Path("runs/" + copied.parent.name).iterdir()
    assert "temperature" not in torch.load(folder / "checkpoints" / "last.ckpt")


def test_a_file_as_folder_is_refused(copied: Path, capsys):
    Path("report").write_text("")
    assert main(["trust", "--ckpt", "run"]) == 2
    assert "--out: got the file report, expected a folder" in capsys.readouterr().err


def test_wrong_files_and_options_are_refused(copied: Path, capsys):
    start = ["trust", "--ckpt", "run", "--only", "norms"]
    Path("pairs.jsonl").write_text('{"text": "a"}')
    for options, message in (
        (["--items", "none.jsonl"], "none.jsonl"),
        (["--chat"], "--chat: got a run that generates no text; leave --chat out"),
        (["--paraphrases", "pairs.jsonl"], "'paraphrase'"),
        (["--before", "none"], "none"),
        (["--before", "run"], "contains no tokenizer"),
        (["--runs", "run"], "--runs: got run, expected runs beside that of --ckpt"),
    ):
        assert main([*start, *options]) == 2
        assert message in capsys.readouterr().err
    assert not Path("report").exists()


def changed(folder: Path, old: str, new: str) -> None:
    """Change the settings in the best checkpoint of a run."""
    path = folder / "checkpoints" / "best.ckpt"
    content = torch.load(path)
    assert old in content[CONFIG_KEY]
    content[CONFIG_KEY] = content[CONFIG_KEY].replace(old, new)
    torch.save(content, path)


def test_runs_of_other_seeds_are_compared(copied: Path, capsys):
    start = ["trust", "--ckpt", "run", "--only", "consistency", "--max-batches", "1"]
    for name in ("seeds/seed0", "seeds/seed1"):
        shutil.copytree("run", name)
    assert main([*start, "--runs", "seeds"]) == 0
    section = json.loads(Path("report/report.json").read_text())["sections"]["consistency"]
    assert section["metrics"]["same answer of all runs"] == 1
    rows = next(t["rows"] for t in section["tables"] if t["title"] == "Runs of one setting")
    assert [row[0] for row in rows] == ["this run", "seeds/seed0", "seeds/seed1"]
    Path("seeds/seed0/result.json").write_text("{}")  # of `fit --seeds`
    assert main(["trust", "--ckpt", "seeds/seed0", "--only", "safety"]) == 0
    title = json.loads(Path("report/report.json").read_text())["title"]
    assert title == f"{Path.cwd().name}, run seeds/seed0"
    changed(Path("seeds/seed1"), "dim: 12", "dim: 16")
    assert main([*start, "--runs", "seeds/seed0", "seeds/seed1"]) == 2
    assert "whose settings of model are others" in capsys.readouterr().err


def test_the_group_is_read_before_a_section_is_computed(copied: Path, capsys, monkeypatch):
    monkeypatch.setitem(SECTIONS, "calibration", lambda run: pytest.fail("was computed"))
    start = ["trust", "--ckpt", "run", "--only", "calibration", "fairness"]
    assert main([*start, "--group", "region"]) == 2
    assert "group: got 'region', expected a field of the batches" in capsys.readouterr().err


def test_a_classifier_has_no_norms(copied: Path):
    Path("items.jsonl").write_text('{"prompt": "p", "options": ["a", "b"], "answer": "a"}')
    assert main(["trust", "--ckpt", "run", "--only", "norms", "--items", "items.jsonl"]) == 0
    section = json.loads(Path("report/report.json").read_text())["sections"]["norms"]
    assert "needs a model that generates text" in section["notes"][0]
