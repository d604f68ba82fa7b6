"""Records of files, folders of classes and trees; prompts of them by hand."""

from __future__ import annotations

from pathlib import Path

from graphformer.data.text.prompted.prompt_templates import (
    PromptedFile,
    Renderer,
    read_prompted,
    render_all,
)

CONLLU = "1\tcats\tx\tNOUN\t_\t_\t2\tnsubj\t_\t_\n2\tsleep\tx\tVERB\t_\t_\t0\troot\t_\t_\n\n"


def test_records_of_classes_and_trees(tmp_path: Path) -> None:
    for name, text in (("neg", "dull\nslow\n"), ("pos", "fine\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    file: PromptedFile = {
        "path": str(tmp_path),
        "prompts": [],
        "classes": {"bad": "neg.txt", "good": "pos.txt"},
        "lines": True,
    }
    assert read_prompted(file, None) == [
        {"text": "dull", "label": "bad"},
        {"text": "slow", "label": "bad"},
        {"text": "fine", "label": "good"},
    ]
    (tmp_path / "a.conllu").write_text(CONLLU)
    file = {"path": str(tmp_path / "a.conllu"), "prompts": []}
    assert read_prompted(file, None) == [{"words": ["cats", "sleep"], "tags": ["NOUN", "VERB"]}]


def test_sources_and_targets_by_hand() -> None:
    renderer = Renderer({"source": " {{ a }}? ", "target": "{{ b if a else '' }}"}, "sums")
    assert renderer({"a": 1, "b": "x"}) == ("1?", "x")
    assert list(render_all(renderer, [{"a": 0, "b": "y"}, {"a": 2, "b": "z"}])) == [("2?", "z")]
