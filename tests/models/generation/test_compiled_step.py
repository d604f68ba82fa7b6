"""The compiled step against the modules it replaces, and the models that it does not compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphformer import models, patterns
from graphformer.models.generation import compiled_step as module
from graphformer.models.generation.compiled_step import compiled_step
from graphformer.models.generation.decoders import CachedDecoder
from graphformer.models.generation.modes import fast_linear
from graphformer.nn import Rotary
from graphformer.nn.feedforward import QuickGELU
from graphformer.nn.norm import RMSNorm
from graphformer.ops.cpu import launch
from graphformer.ops.cpu.decoding import step as step_module

VOCABULARY, PROMPT = 53, [7, 3, 11, 5, 2]


def network(**options):
    """A small decoder in float32 with all weights far from zero."""
    torch.manual_seed(0)
    settings = {"dim": 48, "depth": 3, "num_heads": 3, "hidden_dim": 80, "max_length": 300}
    model = models.language_model(VOCABULARY, **{**settings, **options})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def each_step(model, pattern, counts, weight_dtype="float32"):
    """Logits after the prompt and after each extension by a number of tokens."""
    step = compiled_step(model, weight_dtype)
    assert step is not None
    generator = torch.Generator().manual_seed(1)
    added = [torch.randint(VOCABULARY, (count,), generator=generator) for count in counts]
    results = []
    for compiled in (step, None):
        with torch.inference_mode(), fast_linear(model, weight_dtype):
            decoder = CachedDecoder(model, [PROMPT], pattern, compiled=compiled)
            results.append([decoder.start(), *(decoder.extend(tokens) for tokens in added)])
    return results


OPTIONS = {
    "gpt2": {},
    "exact gelu, no bias": {"bias": False, "positions": "none", "activation": "gelu"},
    "relu": {"activation": "relu", "positions": "sinusoidal"},
    "llama": {"gated": True, "norm": "rms", "positions": "rotary", "bias": False},
    "gated with bias": {"gated": True, "positions": "rotary", "activation": "gelu"},
    "grouped heads": {"num_heads": 6, "num_kv_heads": 2, "head_dim": 32, "positions": "rotary"},
    "qwen3": {"qk_norm": True, "norm": "rms", "positions": "rotary", "gated": True},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("weight_dtype", ["float32", "bfloat16"])
def test_nodes_are_those_of_the_modules(name, weight_dtype):
    # 75 single tokens pass the capacity of 64 slots at which the cache grows.
    counts = [1] * 4 + [3] + [1] * 71
    found, expected = each_step(network(**OPTIONS[name]), patterns.Causal(), counts, weight_dtype)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "pattern",
    [patterns.Window(2, causal=True), [patterns.Causal(), patterns.Window(6, causal=True)] * 2],
    ids=["window", "per-block"],
)
def test_windows_and_threads(pattern, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, expected = each_step(network(depth=4), pattern, [1] * 13 + [2] + [1] * 5)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_other_parts_of_a_block():
    """A partial rotation, Llama's norm, another scale, QuickGELU."""
    model = network(positions="rotary", num_heads=1, norm="rms")
    model.transformer.relative = Rotary(18, magnitude=1.3)
    for block in model.transformer.blocks:
        block.norm2 = RMSNorm(48, eps=1e-3)
        nn.init.normal_(block.norm2.weight)
        block.attention.scale = 0.31
        block.mlp[1] = QuickGELU()
    found, expected = each_step(model, patterns.Causal(), [1] * 7)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_removed_tokens_are_overwritten():
    model, texts = network(), []
    for compiled in (compiled_step(model, "float32"), None):
        with torch.inference_mode():
            decoder = CachedDecoder(model, [PROMPT], patterns.Causal(), compiled=compiled)
            decoder.start()
            decoder.extend(torch.tensor([1, 2, 3]))
            decoder.crop(2)
            texts.append(decoder.extend(torch.tensor([9])))
    torch.testing.assert_close(*texts, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weight_dtype", ["float32", "bfloat16"])
def test_generate_writes_the_same_text(monkeypatch, weight_dtype):
    model, calls = network(**OPTIONS["llama"]), []
    original = module.CompiledStep.__call__

    def counted(self, *args):
        calls.append(1)
        return original(self, *args)

    monkeypatch.setattr(module.CompiledStep, "__call__", counted)
    options = {"max_new_tokens": 40, "temperature": 0, "prompt_lookup": False}
    options["weight_dtype"] = weight_dtype
    text = model.generate(PROMPT, **options)
    assert len(calls) == 39
    handle = model.transformer.blocks[0].register_forward_hook(lambda *_: None)
    assert model.generate(PROMPT, **options) == text
    handle.remove()
    assert len(calls) == 39  # a module with a hook is called


def test_texts_of_a_batch_do_not_use_it():
    model = network()
    step = compiled_step(model, "float32")
    with torch.inference_mode():
        decoder = CachedDecoder(model, [PROMPT, PROMPT], patterns.Causal(), compiled=step)
        assert not step.supports(decoder.self_caches)  # not filled
        decoder.start()
        assert not step.supports(decoder.self_caches)
        decoder.select(torch.tensor([1]))
        assert step.supports(decoder.self_caches)


def test_a_forked_process_does_not_use_it(monkeypatch):
    model = network()
    with torch.inference_mode():
        decoder = CachedDecoder(model, [PROMPT], patterns.Causal())
        decoder.start()
    monkeypatch.setattr(launch, "_forked", True)
    assert not compiled_step(model, "float32").supports(decoder.self_caches)


class OwnLinear(nn.Linear):
    """A subclass, as adapters are."""


def with_subclass(model):
    model.transformer.blocks[1].attention.out = OwnLinear(48, 48)


def with_hook(model):
    model.transformer.blocks[2].mlp[1].register_forward_hook(lambda *_: None)


def with_own_forward(model):
    model.transformer.blocks[0].norm1.forward = lambda x: x


def with_softcap(model):
    model.transformer.blocks[0].attention.softcap = 5.0


def with_tanh(model):
    model.transformer.blocks[0].mlp[1] = nn.Tanh()


@pytest.mark.parametrize(
    "change",
    [with_subclass, with_hook, with_own_forward, with_softcap, with_tanh, nn.Module.double],
)
def test_changed_modules_are_called_as_they_are(change):
    model = network()
    change(model)
    assert compiled_step(model, "float32") is None


@pytest.mark.parametrize(
    "options",
    [
        {"positions": "alibi"},
        {"positions": "relative"},
        {"norm_first": False},
        {"layout": "parallel"},
        {"layout": "sandwich"},
        {"num_experts": 2},
        {"dim": 40, "num_heads": 5, "head_dim": 16},
        {"num_heads": 2},  # heads of 24 dimensions
        {"hidden_dim": 72},
    ],
    ids=str,
)
def test_other_models_are_not_compiled(options):
    assert compiled_step(network(**options), "float32") is None


def test_the_step_is_compiled_once_on_a_machine():
    step_module._compiled()
    again = step_module._compiled.__wrapped__()
    assert sum(again.stats.cache_hits.values()) == 1
