"""The triton backend without a GPU: its kernels in the interpreter, and compiled for two chips."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.awkward import AWKWARD, hub

import graphformer as gf

ROOT = Path(__file__).parents[3]
triton = pytest.importorskip("triton", reason="needs triton, which is for Linux")


@pytest.mark.parametrize("name", ["test_operators.py", "test_kernels.py", "test_combine.py"])
def test_kernels_in_the_interpreter(name: str) -> None:
    """In a separate process, because the interpreter is selected before Triton is imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    done = subprocess.run(
        [*command, str(Path(__file__).with_name(name))],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


# Compiling ahead of time ------------------------------------------------------------------------

Launch = tuple[Any, dict[str, Any]]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """The kernels and arguments of all launches; no kernel runs."""
    from graphformer.ops.triton import driver

    found: list[Launch] = []

    def record(kernel: Any, *_: Any, **arguments: Any) -> None:
        found.append((kernel, arguments))

    monkeypatch.setattr(triton.runtime.jit.JITFunction, "run", record)
    monkeypatch.setattr(driver, "check_device", lambda x: None)
    return found


def compiled(launch: Launch, capability: int) -> Any:
    """Compile a kernel to machine code for the arguments of a launch."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel, arguments = launch
    signature, constants, hints = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr or value is None:
            signature[parameter.name], constants[(place,)] = "constexpr", value
            continue
        signature[parameter.name] = triton.runtime.jit.mangle_type(value)
        if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
            hints[(place,)] = [["tt.divisibility", 16]]
    return triton.compile(
        ASTSource(kernel, signature, constants, hints),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": arguments.get("num_warps", 4)},
    )


def run(function: str, dtype: torch.dtype, *, everything: bool) -> None:
    """Forward and backward on a graph with short rows, long ones and one that is split."""
    from graphformer.ops import triton as backend

    everyone = torch.arange(523)
    fan = torch.stack([everyone[:61], torch.full((61,), 7)])
    adjacency = gf.from_edge_index(torch.cat([hub(523), fan], 1), 523)
    (m, n), edges, heads, width = adjacency.shape, adjacency.num_edges, 4, 32

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(dtype).requires_grad_()

    inputs = [randn(m, heads, width), randn(n, 2, width), randn(n, 2, width)]
    own: dict[str, Any] = {"scale": 0.3}
    if function == "additive_attention":
        inputs, own = [randn(m, heads), randn(n, heads), randn(n, heads, width)], {}
    if function == "gatv2_attention":
        inputs, own = [*inputs, randn(heads, width)], {}
        if everything:
            own = {"edge_key": randn(edges, heads, width)}
    if function == "edge_feature_attention":
        inputs += [randn(edges, 5), randn(heads, width, 5), randn(heads, width, 5)]
    if "scale" not in own:
        own["negative_slope"] = 0.2
    options: dict[str, Any] = dict.fromkeys(("bias", "edge_weight", "seed"))
    options |= {"dropout": 0.0, "return_weights": everything}
    if everything:
        options |= {"bias": randn(edges, heads), "edge_weight": randn(edges, 1)}
        options |= {"dropout": 0.3, "seed": torch.tensor(3)}
    out, weights = getattr(backend, function)(*inputs, adjacency, **own, **options)
    sum(x.sum() for x in (out, weights) if x is not None).backward()


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("function", "dtype", "everything"),
    [
        ("attention", torch.bfloat16, False),
        ("attention", torch.float16, True),
        pytest.param("additive_attention", torch.float32, False, marks=pytest.mark.slow),
        pytest.param("gatv2_attention", torch.float32, False, marks=pytest.mark.slow),
        ("gatv2_attention", torch.bfloat16, True),
        ("edge_feature_attention", torch.float32, True),
    ],
)
def test_every_kernel_compiles(
    function: str, dtype: torch.dtype, everything: bool, capability: int, launches: list[Launch]
) -> None:
    run(function, dtype, everything=everything)
    kinds = {}
    for launch in launches:
        kernel, arguments = launch
        split = arguments.get("begins") is not None
        kinds.setdefault((kernel.__name__, split, arguments.get("LANES")), launch)
    names = {name for name, *_ in kinds}
    expected = {"forward", "by_target", "by_source", "combine_softmax", "combine_sums"}
    expected |= {"logits_to_weights"} if everything else set()
    expected |= {"edge_features"} if function == "edge_feature_attention" else set()
    assert names == expected
    for (_, split, _), launch in kinds.items():
        if split or (capability == 90 and dtype == torch.bfloat16):  # the others differ little
            assert f"sm_{capability}" in compiled(launch, capability).asm["ptx"]


# Requirements ---------------------------------------------------------------------------------


def test_tensors_must_be_on_a_cuda_device() -> None:
    q = torch.ones(17, 2, 3)
    with pytest.raises(ValueError, match="tensors on cpu, expected tensors on a CUDA device"):
        gf.attention(q, q, q, AWKWARD["random"](), backend="triton")


def in_a_new_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.strip()


ATTEND = """
import sys, torch, graphformer as gf
q = torch.ones(5, 2, 3, requires_grad=True)
for adjacency in (gf.complete(5), gf.window(5, 1).to_csr()):
    gf.attention(q, q, q, adjacency).sum().backward()
"""


def test_a_cpu_run_imports_nothing_of_cuda() -> None:
    """torch imports Triton if it is installed; so only modules of this package are checked."""
    own = "('graphformer.ops.triton', 'graphformer.ops.flex')"
    assert in_a_new_process(ATTEND + f"print([n for n in {own} if n in sys.modules])") == "[]"


def test_without_triton_the_backend_is_refused_and_others_work() -> None:
    code = f"""
import sys
sys.modules["triton"] = None  # an import then fails
{ATTEND}
try:
    gf.attention(q, q, q, adjacency, backend="triton")
except ImportError as error:
    print(error)
"""
    assert "backend: got 'triton', expected an installed triton" in in_a_new_process(code)
