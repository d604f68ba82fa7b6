"""Try an installed graphformer, not the checkout: `python tests/smoke.py` with its interpreter.

`make wheel` runs it with the wheel in a new environment. It needs no test libraries and no network.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path


def run(*command: str, folder: str) -> str:
    """Return what a command prints; its errors end the program."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def main() -> None:
    """Import, list, train, test, predict and load, in a folder of its own."""
    graphformer = str(Path(sys.executable).with_name("graphformer"))
    with tempfile.TemporaryDirectory() as folder:
        quick = "import sys, graphformer; assert 'torch' not in sys.modules; print(graphformer)"
        print(run(sys.executable, "-c", quick, folder=folder), end="")
        print(run(graphformer, "--version", folder=folder), end="")
        assert "vit_fashion_mnist" in run(graphformer, "list", "experiments", folder=folder)
        fit = ["fit", "-c", "vit", "-c", "digits", "--trainer.max_epochs", "1"]
        run(graphformer, *fit, folder=folder)
        (ckpt,) = map(str, Path(folder, "runs", "vit").iterdir())
        run(graphformer, "test", "--ckpt", ckpt, "--adjacency", "Grid", folder=folder)
        run(graphformer, "predict", "--ckpt", ckpt, "--output", "predictions.csv", folder=folder)
        assert Path(folder, "predictions.csv").stat().st_size > 1000
        load = f"import graphformer as gf; print(type(gf.load({ckpt!r})).__name__)"
        print(run(sys.executable, "-c", load, folder=folder), end="")
        attend = "import torch, graphformer as gf; x = torch.randn(5, 1, 4); "
        attend += "print(gf.attention(x, x, x, gf.window(5, 1)).shape)"
        print(run(sys.executable, "-c", attend, folder=folder), end="")
    print("ok")


if __name__ == "__main__":
    main()
