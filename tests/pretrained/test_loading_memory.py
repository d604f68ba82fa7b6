"""What loading takes: hardly more than the weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

MEASURE = """
import sys, threading, time
import torch
from graphformer.pretrained import from_pretrained

def used():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

torch.ones(9) @ torch.ones(9)
before, done = used(), threading.Event()
peak = [before]

def watch():
    while not done.is_set():
        peak.append(used())
        time.sleep(1e-3)

watcher = threading.Thread(target=watch)
watcher.start()
model = from_pretrained(sys.argv[1])
done.set()
watcher.join()
weights = sum(p.numel() * p.element_size() for p in model.parameters())
print(weights, max(peak) - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, which says what a process uses")
def test_peak_memory_is_that_of_the_weights(tmp_path: Path):
    dim, hidden, vocab, depth = 704, 1906, 13_001, 6
    sizes = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": dim,
        "intermediate_size": hidden,
        "num_hidden_layers": depth,
        "num_attention_heads": 11,
        "vocab_size": vocab,
    }
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    shapes = {"model.embed_tokens": (vocab, dim), "lm_head": (vocab, dim), "model.norm": (dim,)}
    for layer in (f"model.layers.{i}." for i in range(depth)):
        shapes |= {f"{layer}self_attn.{name}_proj": (dim, dim) for name in "qkvo"}
        shapes |= {f"{layer}mlp.{name}_proj": (hidden, dim) for name in ("gate", "up")}
        shapes[f"{layer}mlp.down_proj"] = (dim, hidden)
        shapes |= {f"{layer}{n}_layernorm": (dim,) for n in ("input", "post_attention")}
    tensors = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    weights, taken = map(int, result.stdout.split())
    assert weights > 200e6
    assert taken <= 1.3 * weights
