"""`graphformer scaling fit` and `plot` on tables of runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from helpers.scaling import REPLICATION, isoflop_table

from graphformer.cli import main


@pytest.fixture
def table(tmp_path: Path) -> Path:
    runs = isoflop_table(noise=0.001, budgets=3, sizes=5)
    with (tmp_path / "published.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Model Size", "Training Tokens", "loss"])
        rows.writerows(zip(runs.N, runs.D, runs.loss, strict=True))
    return tmp_path / "published.csv"


def test_fit_answers_with_the_optimal_size(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.with_suffix(".json")
    arguments = ["--flops", "1e21", "--bootstrap", "5", "--out", str(out)]
    assert main(["scaling", "fit", str(table), *arguments]) == 0
    assert "largest run held out: predicted" in capsys.readouterr().out
    laws = {law["law"]: law for law in json.loads(out.read_text())["published"]}
    assert laws.keys() == {"parametric", "isoflop", "kaplan"}
    size, tokens = REPLICATION.optimum(1e21)
    for name in ("parametric", "isoflop"):
        values = laws[name]["values"]
        assert values["N at 1e+21"] == pytest.approx(size, rel=0.1)
        assert values["D at 1e+21"] == pytest.approx(tokens, rel=0.1)
        low, high = laws[name]["intervals"]["N ~ C^"]
        assert low < high
    assert abs(laws["parametric"]["held_out"]["error"]) < 0.01


@pytest.mark.slow
def test_plot_of_two_tables(table: Path, tmp_path: Path) -> None:
    other = table.with_name("other.csv")
    other.write_text(table.read_text())
    out = tmp_path / "laws.png"
    line = ["scaling", "plot", str(table), str(other), "--bootstrap", "0", "--out", str(out)]
    assert main(line) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "no.csv"], "no.csv: No such file"),
        (["fit", "few.csv"], "parametric: runs: got 1 runs of 1 sizes, expected 6 or more"),
        (["fit", "few.csv", "--columns", "n=x"], "--columns: got 'n=x', expected N=NAME"),
        (["fit", "few.csv", "--flops", "-1"], "--flops: got -1, expected a number above 0"),
        (["plot", "few.csv", "--out", "a.foo"], "--out: got a.foo, expected a name that ends in"),
        (["fit", "few.csv", "--out", "no/a.json"], "--out: got no/a.json, but there is no folder"),
        (["run", "--depths", "2", "--out", "no/a.csv"], "--out: got no/a.csv, but there is no"),
    ],
)
def test_wrong_lines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("few.csv").write_text("N,D,loss\n1e6,1e8,3.0\n")
    assert main(["scaling", *arguments]) == 2
    assert message in capsys.readouterr().err
