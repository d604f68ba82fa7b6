"""What an installed package promises: its version, a quick import, its type marker."""

from __future__ import annotations

import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import graphformer

HEAVY = ("torch", "lightning", "torch_geometric", "numba", "numpy", "jsonargparse")


def imported_after(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has imported after running the code."""
    check = f"{code}\nimport sys; print('\\n' + ' '.join(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", check],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(graphformer.__file__).parent.parent,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", graphformer.__version__)


def test_type_marker():
    assert (Path(graphformer.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize(
    "code",
    [
        "import graphformer",
        "from graphformer.cli import main; main(['--version'])",
        "from graphformer.cli import main; main(['--help'])",
        "from graphformer.cli import main; main(['list'])",
        "from graphformer.cli import main; main(['no-such-command'])",
    ],
)
def test_quick_roads_import_nothing_heavy(code: str):
    assert imported_after(code) == set()


def test_public_names_are_there():
    for name in graphformer.__all__:
        assert getattr(graphformer, name) is not None


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'atention'"):
        _ = graphformer.atention


def test_installing_exposes_the_package_alone(tmp_path: Path):
    """`datasets/` on the path would be taken for Hugging Face's library where that is absent."""
    check = (
        "import importlib.util as u\n"
        "found = [u.find_spec(name) for name in ('datasets', 'experiments', 'tests')]\n"
        "print([list(spec.submodule_search_locations) for spec in found if spec])"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )  # fmt: skip
    assert str(Path(graphformer.__file__).parent.parent) not in done.stdout


def test_no_module_shadows_a_public_name():
    """Importing `graphformer.x` would replace the function `graphformer.x`."""
    modules = {module.name for module in pkgutil.iter_modules(graphformer.__path__)}
    assert not modules & (set(graphformer.__all__) - set(graphformer._MODULES))
