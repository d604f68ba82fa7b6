"""Tables of runs: columns by usual names, and the third of N, D and C."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphformer.scaling import RunTable, fit_kaplan, fit_parametric, read_table


def write(folder: Path, text: str) -> Path:
    (folder / "runs.csv").write_text(text)
    return folder / "runs.csv"


@pytest.mark.parametrize(
    "head", ["Model Size,Training FLOP,loss", "params,C,val/loss", " N ,flops,L"]
)
def test_usual_names_are_found(tmp_path: Path, head: str) -> None:
    runs = read_table(write(tmp_path, f"{head}\n1e6,6e14,3.5\n2e6,24e14,3.1\n"))
    assert runs.N.tolist() == [1e6, 2e6]
    assert runs.D == pytest.approx([1e8, 2e8])
    assert runs.loss.tolist() == [3.5, 3.1]
    assert runs.flops_factor == pytest.approx(6)


def test_other_names_are_given(tmp_path: Path) -> None:
    path = write(tmp_path, "weights,tokens,loss,smoothed\n7,11,3,2\n")
    runs = read_table(path, {"N": "weights", "loss": "smoothed"})
    assert (runs.N[0], runs.D[0], runs.C[0], runs.loss[0]) == (7, 11, 6 * 77, 2)
    with pytest.raises(ValueError, match="columns: got N='width', expected one of weights"):
        read_table(path, {"N": "width"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("N,D\n1,2\n", "loss: got the columns N, D"),
        ("N,loss\n1,2\n", "table: got N of N, D and C, expected two"),
        ("N,D,loss\n1,2,x\n", "loss: got 'x' in line 2, expected a number"),
        ("N,D,loss\n1,2\n", "loss: got None in line 2"),
        ("N,D,loss\n0,2,3\n", "N: got a value that is not a positive finite number"),
        ("N,D,loss\n", "table: got no rows"),
        ("N,D,loss,val_loss\n1,2,3,4\n", "loss: got the columns loss and val_loss, expected one"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path, text))


def test_actual_compute_gives_its_factor() -> None:
    runs = RunTable.build(N=[2.0, 3.0], D=[5.0, 7.0], C=[73.0, 153.3], loss=[1.0, 1.0])
    assert runs.flops_factor == pytest.approx(7.3)


@pytest.mark.parametrize("fit", [fit_parametric, fit_kaplan])
def test_one_ratio_of_tokens_does_not_determine_two_exponents(fit: Callable[..., object]) -> None:
    # Published losses of seven models at about 20 tokens per parameter (Dey et al. 2023).
    sizes = np.array([0.111, 0.256, 0.59, 1.3, 2.7, 6.7, 13]) * 1e9
    tokens = np.array([2.2, 5.1, 11.8, 26.3, 53, 133, 257]) * 1e9
    losses = np.array([2.566, 2.299, 2.184, 1.996, 1.834, 1.704, 1.575])
    with pytest.raises(ValueError, match="runs: got tokens that follow from the size"):
        fit(RunTable.build(N=sizes, D=tokens, loss=losses))
    several = RunTable.build(
        N=np.tile(sizes, 2), D=np.append(tokens, 2 * tokens), loss=np.append(losses, losses - 0.1)
    )
    fit(several)
