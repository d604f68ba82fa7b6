"""`graphformer plan`: with data and with sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphformer.cli import main

GPT = ["--model", "LanguageModeling", "--model.network", "language_model"]
NETWORK = {"vocab_size": 101, "dim": 24, "depth": 2, "num_heads": 3, "max_length": 211}
OPTIONS = [word for name, n in NETWORK.items() for word in (f"--model.network.{name}", str(n))]
SIZES = [*OPTIONS, "--tokens", "211", "--samples", "3"]


def test_plan_of_an_experiment(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-c", "tiny.yaml", "--memory", "1GB", "--out", "plan.json"]) == 0
    shown = capsys.readouterr()
    assert "it fits into 1 GB as it is" in shown.out
    assert "Warning" not in shown.err
    plan = json.loads(Path("plan.json").read_text())
    assert plan["asked"]["total"] == sum(plan["asked"]["peak"].values())
    assert plan["flops"]["total"] > 0
    assert not Path("runs").exists()


def test_plan_without_data(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", *GPT, *SIZES, "--device", "cuda", "--devices", "4", "--out", "plan.json"]
    assert main([*words, "--memory", "300kB"]) == 0
    assert "no combination" in capsys.readouterr().out
    assert main([*words, "--memory", "2MB"]) == 0
    assert "it fits into 2 MB with: " in capsys.readouterr().out
    plan = json.loads(Path("plan.json").read_text())
    assert (plan["samples"], plan["nodes"]) == (3, 3 * 211)
    assert plan["edges"] == [3 * 211 * 212 // 2]
    assert plan["fitting"]["total"] <= 2_000_000 < plan["asked"]["total"]
    assert "fsdp2 over 4 devices" in [each["changes"][0] for each in plan["one_change"]]


def test_plan_of_graphs_without_data(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "plan", "--model", "Classification", "--model.network", "graph_transformer",
        "--adjacency", "Edges", "--model.level", "node", "--model.num_classes", "5",
        "--model.network.num_classes", "5", "--model.network.num_features", "7",
        "--nodes", "1009", "--out", "plan.json",
    ]  # fmt: skip
    assert main([*words, "--edges", "5003"]) == 0
    assert json.loads(Path("plan.json").read_text())["edges"] == [5003]
    assert main(words) == 2
    assert "edges: got None, expected the edges of a graph; set --edges" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--memory", "80XB"], "--memory: got '80XB', expected a size such as 80GB"),
        (["--strategy", "ddp3"], "--strategy: invalid choice: 'ddp3'"),
        (["--strategy", "single", "--devices", "2"], "--strategy: got single with 2 devices"),
        (["--precision", "bf16-mixd"], "--precision: got 'bf16-mixd'"),
        (["--model.network.max_length", "50"], "positions: got 210, expected at most 49"),
        (["--model.network.dpeth", "3"], "dpeth"),
        (["--tokens", "0"], "expected an integer of 1 or more"),
    ],
)
def test_wrong_options_are_one_sentence(
    workplace: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *GPT, *SIZES, *words]) == 2
    shown = capsys.readouterr().err.strip()
    assert message in shown
    assert "\n" not in shown


def test_what_the_allocator_keeps_is_named(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = "MALLOC_MMAP_THRESHOLD_"
    monkeypatch.delenv(variable, raising=False)
    assert main(["plan", *GPT, *SIZES, "--device", "cpu"]) == 0
    assert f"{variable}=1048576" in capsys.readouterr().out
    assert main(["plan", *GPT, *SIZES, "--device", "cuda"]) == 0
    assert variable not in capsys.readouterr().out
    monkeypatch.setenv(variable, "1048576")
    assert main(["plan", *GPT, *SIZES, "--device", "cpu"]) == 0
    assert variable not in capsys.readouterr().out


def test_sizes_that_are_absent_are_named(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *GPT, "--tokens", "211"]) == 2
    message = capsys.readouterr().err
    assert "needs vocab_size, which a plan in place of data does not define: set --mo" in message
    assert "or leave out --tokens" in message
    assert main(["plan", *GPT, "--edges", "211"]) == 2
    assert "--edges: got it without --nodes" in capsys.readouterr().err
