"""One small training run that the tests of the command line share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers.runs import EXPERIMENT, TEXT, Run

from graphformer.cli import main
from graphformer.data.text.tokenizer import Bytes


@contextmanager
def one_thread() -> Iterator[None]:
    """Run on one thread: faster for small models, and sums have the same order in every test."""
    from graphformer.ops.cpu import launch  # noqa: F401 - numba resets the number at its import

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of two epochs, in a folder that no test may change."""
    home = tmp_path_factory.mktemp("cli")
    (home / "tiny.yaml").write_text(EXPERIMENT)
    previous = Path.cwd()
    os.chdir(home)
    try:
        with one_thread():  # a session's fixture is made before those of the package
            assert main(["fit", "-c", "tiny.yaml"]) == 0
    finally:
        os.chdir(previous)
    (folder,) = (home / "runs" / "tiny").iterdir()
    return Run(home, folder)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the experiment in it, as the current one."""
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def text_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one text in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


CHATML = (
    "{% for m in messages %}{{ '<s>' + m['role'] + ': ' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"
)


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama of bytes in a Hugging Face folder, with a chat template."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = Bytes(["<s>", "</s>"])
    sizes = {"hidden_size": 28, "intermediate_size": 31, "num_attention_heads": 2}
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        num_hidden_layers=1,
        max_position_embeddings=97,
        eos_token_id=tokenizer.backend.token_to_id("</s>"),
        **sizes,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save(folder / "tokenizer.json")
    settings = {"eos_token": "</s>", "bos_token": "<s>", "chat_template": CHATML}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
