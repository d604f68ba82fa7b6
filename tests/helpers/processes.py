"""`run_ranks`: a function of a test file in several processes that form a process group."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

_TIMEOUT = 120  # seconds; a deadlock ends the test


def run_ranks(function: Callable[..., Any], world_size: int, *arguments: Any) -> list[Any]:
    """Return `function(*arguments)` of each rank; the ranks see the environment of torchrun.

    Args:
        function: at the top level of its file; it returns what `torch.save` can write.
        world_size: number of processes.
        arguments: of the function, picklable.

    Raises:
        AssertionError: with the traceback of a rank that fails, or when one does not end.
    """
    # One server imports the packages; each process is forked from it in milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning.pytorch", "graphformer.tasks", "graphformer.data"])
    with TemporaryDirectory() as folder:
        address = (function.__code__.co_filename, function.__name__, _free_port(), folder)
        ranks = [
            context.Process(target=_run, args=(rank, world_size, address, arguments))
            for rank in range(world_size)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(_TIMEOUT)
        for process in ranks:
            process.kill()
        files = [Path(folder, str(rank)) for rank in range(world_size)]
        results = [torch.load(file, weights_only=False) for file in files if file.exists()]
        errors = [result[1] for result in results if result[0] == "error"]
        assert not errors, "\n".join(errors)
        assert len(results) == world_size, f"a rank did not end within {_TIMEOUT} s"
        return [result[1] for result in results]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _run(rank: int, world_size: int, address: tuple[str, str, int, str], arguments: Any) -> None:
    file, name, port, folder = address
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in numbers.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", TORCHELASTIC_RUN_ID="test", GROUP_RANK="0")
    torch.set_num_threads(1)
    try:
        torch.distributed.init_process_group("gloo")
        spec = importlib.util.spec_from_file_location(Path(file).stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        result = ("result", getattr(module, name)(*arguments))
    except BaseException:  # noqa: BLE001 - passed on to the test
        result = ("error", f"rank {rank}: {traceback.format_exc()}")
    torch.save(result, Path(folder, f"partial-{rank}"))
    Path(folder, f"partial-{rank}").rename(Path(folder, str(rank)))
    os._exit(0)  # without the handlers of Lightning, which wait for other ranks
