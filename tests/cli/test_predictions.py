"""Predictions of several processes: rows in the order of the data, once each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.runs import Run
from torch_geometric.data import Data

from graphformer.cli.predictions import Rows, in_data_order, split_rows


def test_rows_are_split_by_sample_or_by_node() -> None:
    batch = Data(lengths=(2, 3))
    by_node = torch.arange(10.0).view(5, 2)
    assert [len(part) for part in split_rows(by_node, batch, 2)] == [2, 3]
    assert [len(part) for part in split_rows(by_node, Data(ptr=torch.tensor([0, 1, 5])), 2)] == [
        1,
        4,
    ]
    assert [len(part) for part in split_rows(by_node[:2], batch, 2)] == [1, 1]
    assert [len(part) for part in split_rows(torch.zeros(7, 2), batch, 2)] == [7]


def test_processes_are_merged_in_order_and_repeated_samples_dropped() -> None:
    def one(loader: int, sample: int, value: float) -> tuple[tuple[int, int], Rows]:
        return (loader, sample), Rows(torch.tensor([value]))

    first = [one(0, 0, 0.0), one(0, 2, 2.0), one(1, 0, 1.0)]
    second = [one(0, 1, 1.0), one(0, 2, 2.0)]
    rows = in_data_order([first, second])
    assert torch.cat([part.output for part in rows]).tolist() == [0, 1, 2, 1]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_two_processes_write_the_file_of_one(trained: Run, tmp_path: Path, strategy: str) -> None:
    def predict(name: str, *options: str) -> torch.Tensor:
        output = str(tmp_path / name)
        command = ["predict", "--ckpt", str(trained.last), "--output", output, *options]
        script = tmp_path / "main.py"
        script.write_text(
            "import sys\nfrom graphformer.cli import main\n"
            "if __name__ == '__main__':\n    sys.exit(main())\n"
        )
        subprocess.run([sys.executable, script, *command], cwd=trained.home, check=True)
        return torch.load(output)

    single = predict("one.pt", "--trainer.limit_predict_batches", "3")
    options = ["--trainer.devices", "2", "--trainer.strategy", strategy]
    assert torch.equal(predict("two.pt", *options)[: len(single)], single)
