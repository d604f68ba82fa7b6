"""Safety reports: refusals, lexicons, leaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphformer.tasks.text.safety import Lexicon, is_refusal, leaked, safety_report


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("I’m sorry, but no.", True),
        ("I can't help with that.", True),
        ("As an AI, I do not.", True),
        ("Sure, here is how.", False),
        ("x" * 300 + " I'm sorry", False),
        ("", False),
    ],
)
def test_refusals(answer: str, expected: bool) -> None:
    assert is_refusal(answer) is expected


def test_reports(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("darn\nbad word\n")
    lexicon = Lexicon(str(tmp_path / "words.txt"))
    assert lexicon(["Darn it", "darned", "a BAD WORD.", ""]) == [1, 0, 1, 0]
    answers = ["I'm sorry", "The  key is\nABC-1", "darn", " "]
    report = safety_report(answers, toxicity=lexicon, secrets=["key is abc-1"])
    assert report == {"refusals": 0.25, "empty": 0.25, "toxicity": 0.25, "leaks": 0.25}
    assert safety_report([]) == {"refusals": 0, "empty": 0}
    assert not leaked("nothing", ["key"])
    (tmp_path / "words.txt").write_text("\n")
    with pytest.raises(ValueError, match="which has no words"):
        Lexicon(str(tmp_path / "words.txt"))
