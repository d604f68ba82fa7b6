"""What identifies runs: settings, not the form or the place of their files."""

from __future__ import annotations

from pathlib import Path

from graphformer.cli.many_runs.settings import inlined, settings_key


def key(folder: Path, text: str, *words: str) -> str:
    file = folder / "a.yaml"
    file.write_text(text)
    return settings_key(inlined(["-c", str(file), *words]))


def test_comments_order_and_folders_do_not_count(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    first = key(tmp_path, "model:\n  lr: 1.0\n  depth: 2\n")
    assert first == key(other, "# a comment\nmodel: {depth: 2, lr: 1.0}\n")
    assert first == key(tmp_path, "model: {depth: 2, lr: 1.0}", "--trainer.default_root_dir", "x")
    assert first != key(tmp_path, "model: {depth: 3, lr: 1.0}")
    assert first != key(tmp_path, "model: {depth: 2, lr: 1.0}", "--model.lr", "2")
