"""Speed of text models beside their peers, interleaved in one run: a table, figures and a picture.

    python experiments/text_speed.py window plain decoding --out experiments/results/text

- window: a training step of experiments/char_lm.yaml's model, the full triangle and a window of
  32, the same tokens a step at all lengths;
- plain: the same model's step beside a transformer in plain PyTorch of its form and shape;
- decoding: `model.generate` beside `generate` of transformers (extra `hf`) with the same weights,
  drawn narrowly as GPT-2's are, whose texts repeat tokens for long, and widely, whose texts do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

import graphformer as gf
from graphformer import models
from graphformer.adjacency import Adjacency

VOCABULARY, TOKENS = 65, 4096
Row = dict[str, Any]


class PlainBlock(nn.Module):
    """nanoGPT's block, written out: the peer of `plain`."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = (nn.LayerNorm(dim, bias=False) for _ in range(2))
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.up, self.down = (
            nn.Linear(dim, 4 * dim, bias=False),
            nn.Linear(4 * dim, dim, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.num_heads, -1)).unbind(2)
        heads = (part.transpose(1, 2) for part in (q, k, v))
        y = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class PlainTransformer(nn.Module):
    """A language model of char_lm.yaml's shape over texts [B, L] of one length."""

    def __init__(self, dim: int = 128, depth: int = 4, num_heads: int = 4) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, dim), nn.Embedding(64, dim)
        self.blocks = nn.Sequential(*(PlainBlock(dim, num_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, bias=False)
        for weight in self.parameters():  # larger ones saturate, and denormal numbers are slow
            if weight.ndim > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        return self.norm(self.blocks(x)) @ self.tokens.weight.T


def training_step(network: nn.Module, forward: Callable[[], Tensor], labels: Tensor) -> Any:
    """A step of AdamW, as a function."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(forward().flatten(0, -2), labels.flatten()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def char_lm_step(lengths: list[int], adjacency: Adjacency) -> Callable[[], None]:
    """A step of char_lm.yaml's model over random texts."""
    network = models.language_model(
        VOCABULARY, dim=128, depth=4, num_heads=4, max_length=max(lengths), bias=False
    )
    ids = torch.randint(VOCABULARY, (sum(lengths),))
    places = torch.cat([torch.arange(length) for length in lengths])
    batch = Data(x=ids, pos=places, lengths=tuple(lengths))
    return training_step(network, lambda: network(batch, adjacency), ids)


def attention_step(adjacency: Adjacency) -> Callable[[], None]:
    """Attention as in a block of char_lm.yaml's model, forward and backward."""
    q, k, v = (torch.randn(TOKENS, 4, 32, requires_grad=True) for _ in range(3))
    return lambda: gf.attention(q, k, v, adjacency).sum().backward()


def interleaved(steps: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The median seconds of each step; all run in turn, for a machine's speed drifts."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number:  # the first round compiles and fills caches
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def window(rounds: int) -> Iterator[Row]:
    """The triangle beside a window of 32."""
    for length in (64, 256, 1024, 2048, 4096):
        lengths = [length] * (TOKENS // length)
        steps = {
            "triangle": char_lm_step(lengths, gf.causal(lengths)),
            "window 32": char_lm_step(lengths, gf.window(lengths, 32, causal=True)),
        }
        seconds = interleaved(steps, rounds)
        yield row("window", f"length {length}", seconds, "window 32", "triangle", TOKENS)
        alone = {
            "triangle": attention_step(gf.causal(lengths)),
            "window 32": attention_step(gf.window(lengths, 32, causal=True)),
        }
        seconds = interleaved(alone, rounds)
        case = f"length {length}, its attention alone"
        yield row("attention", case, seconds, "window 32", "triangle", TOKENS)


def plain(rounds: int) -> Iterator[Row]:
    """nanoGPT's CPU setting beside plain PyTorch."""
    lengths, peer = [64] * 12, PlainTransformer()
    ids = torch.randint(VOCABULARY, (12, 64))
    steps = {
        "graphformer": char_lm_step(lengths, gf.causal(lengths)),
        "plain PyTorch": training_step(peer, lambda: peer(ids), ids),
    }
    seconds = interleaved(steps, 10 * rounds)
    yield row("plain", "12 texts of 64", seconds, "graphformer", "plain PyTorch", ids.numel())


def decoding(rounds: int) -> Iterator[Row]:
    """GPT-2 beside transformers, greedy, 32 tokens after prompts of 32."""
    if find_spec("transformers") is None:
        print("decoding needs transformers: pip install 'graphformer[hf]'")
        return
    from transformers import GPT2Config, GPT2LMHeadModel

    for (depth, dim, heads), std in product(((4, 256, 4), (12, 768, 12)), (0.06, 0.02)):
        config = GPT2Config(
            n_layer=depth,
            n_embd=dim,
            n_head=heads,
            initializer_range=std,
            bos_token_id=None,
            eos_token_id=None,
        )
        peer = GPT2LMHeadModel(config).eval()
        ours = gf.from_pretrained(peer).eval()
        for texts in (1, 8):
            ids = torch.randint(config.vocab_size, (texts, 32))
            steps, answers = greedy(ours, peer, ids)
            seconds = interleaved(steps, max(3, rounds // 2))
            repeats = "much" if std == 0.02 else "little"
            case = f"GPT-2, {depth} layers of {dim}, {texts} at a time, repeats {repeats}"
            facts = row("decoding", case, seconds, "graphformer", "transformers", 32 * texts)
            yield facts | {"same tokens": torch.equal(*answers.values())}


def greedy(ours: Any, peer: Any, ids: Tensor) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Both decodings, as functions that keep their last answers in a dictionary."""
    answers: dict[str, Tensor] = {}
    options = {"attention_mask": torch.ones_like(ids), "do_sample": False, "pad_token_id": 0}

    def graphformer() -> None:
        answers["graphformer"] = torch.tensor(ours.generate(ids, max_new_tokens=32, temperature=0))

    def transformers() -> None:
        answers["transformers"] = peer.generate(ids, max_new_tokens=32, **options)

    return {"graphformer": graphformer, "transformers": transformers}, answers


def row(suite: str, case: str, seconds: dict[str, float], ours: str, peer: str, tokens: int) -> Row:
    return {
        "suite": suite,
        "case": case,
        "seconds": seconds,
        "tokens a second": {name: tokens / value for name, value in seconds.items()},
        "times faster": seconds[peer] / seconds[ours],
    }


def show(rows: list[Row]) -> None:
    table = Table("suite", "case", "ms", "tokens a second", "times faster")
    for facts in rows:
        table.add_row(
            facts["suite"],
            facts["case"],
            ", ".join(f"{name} {value * 1e3:.1f}" for name, value in facts["seconds"].items()),
            ", ".join(f"{value:,.0f}" for value in facts["tokens a second"].values()),
            f"{facts['times faster']:.2f}",
        )
    Console().print(table)


def draw(rows: list[Row], path: Path) -> None:
    """Tokens a second against the length of texts."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    lengths = [int(facts["case"].split()[1]) for facts in rows]
    for name, color in (("window 32", "#1a7f5a"), ("triangle", "#b5533c")):
        axis.plot(
            lengths, [f["tokens a second"][name] for f in rows], "o-", color=color, label=name
        )
    axis.set(xscale="log", xlabel="length of a text", ylabel="tokens a second, training")
    axis.set_xticks(lengths, [str(length) for length in lengths])
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    axis.set_title("4 layers of width 128: the same weights, two adjacencies", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    suites = {"window": window, "plain": plain, "decoding": decoding}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suites", nargs="*", default=list(suites), metavar="suite")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    for name in arguments.suites:
        for facts in suites[name](arguments.rounds):
            rows.append(facts)
            print(f"{name}: {facts['case']}: {facts['times faster']:.2f} times faster", flush=True)
    show(rows)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        about = {"threads": torch.get_num_threads(), "torch": torch.__version__, "rows": rows}
        (arguments.out / "speed.json").write_text(json.dumps(about, indent=1) + "\n")
        if compared := [facts for facts in rows if facts["suite"] == "window"]:
            draw(compared, arguments.out / "window.png")


if __name__ == "__main__":
    main()
