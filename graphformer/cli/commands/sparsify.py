"""`graphformer sparsify`: measures a trained text model with other adjacencies."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphformer.cli.config.command_parser import CommandParser, number, whole_number
from graphformer.cli.errors import UsageError

if TYPE_CHECKING:
    from graphformer.cli.tradeoff import MeasuredModel, Measurement
    from graphformer.data.batch import BatchLike
    from graphformer.patterns import Pattern

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
LEARNING_BATCH_TOKENS = 1024  # small, because the attention weights of all layers are kept
TABLES = (".jsonl", ".tsv", ".csv")

Encoder = Callable[[list[str], int], list[list[int]]]
Batches = Callable[[int], list["BatchLike"]]


def main(argv: Sequence[str]) -> int:
    """Measure patterns on texts; print a table, write results and a figure; return 0.

    Raises:
        UsageError: when the arguments, the model or the data are wrong.
    """
    arguments = _parse(argv)
    from graphformer.cli.config.pattern_syntax import parse_pattern
    from graphformer.cli.errors import plain_errors
    from graphformer.cli.plots.tradeoff import draw_tradeoff
    from graphformer.cli.tradeoff import MeasuredModel

    requested = {text: parse_pattern(text) for text in arguments.patterns}
    with plain_errors():
        network, original, encode = _load_model(arguments.model)
        texts, labels = _load_texts(arguments)
        num_learning = arguments.learn_texts if arguments.learn else 0
        learning_texts, texts = texts[:num_learning], texts[num_learning:]
        if not texts:
            raise UsageError("sparsify: no text is left to measure: lower --learn-texts")
        sizes = _check_lengths(arguments.lengths, network)
        model = MeasuredModel(network, original, labels[num_learning:] if labels else None)
        patterns = {_original_name(original, requested): original, **requested}
        arguments.out.mkdir(parents=True, exist_ok=True)
        if arguments.learn:
            learning_batches = _batches(learning_texts, encode, LEARNING_BATCH_TOKENS)
            patterns |= _learn_patterns(model, learning_batches(max(sizes)), arguments)
        batches = _batches(texts, encode, arguments.batch_tokens)
        measurements = _measure(model, patterns, batches, sizes, arguments)
    _print_table(measurements, model.measure)
    _write_results(measurements, model.measure, len(texts), arguments)
    name = arguments.name or Path(arguments.model).name
    figure = arguments.out / "tradeoff.png"
    draw_tradeoff(measurements, model.measure, f"{name}: cost and gain of sparse attention", figure)
    print(f"wrote {arguments.out / 'results.json'}, {figure}")
    return 0


def _load_model(name: str) -> tuple[Any, Pattern, Encoder]:
    """Return the network, the adjacency and the encoder of texts of a folder or a run."""
    from graphformer.cli.checkpoints import load_text_model
    from graphformer.pretrained import PretrainedTokenizer

    network, adjacency, tokenizer = load_text_model(name, "sparsify")

    def encode(texts: list[str], size: int) -> list[list[int]]:
        if isinstance(tokenizer, PretrainedTokenizer):  # keeps the special token at the end
            return tokenizer.ids(texts, max_length=size)
        return [ids[:size].tolist() for ids in tokenizer.encode_batch(texts)]

    return network, adjacency, encode


def _load_texts(arguments: argparse.Namespace) -> tuple[list[str], list[int] | None]:
    """Return the shuffled texts of all files and the number of each one's label, if there are any.

    Labels are numbered in sorted order, numerically if all of them are numbers.
    """
    import random

    found = [pair for name in arguments.data for pair in _read_texts(name, arguments)]
    found = [(text, label) for text, label in found if text.strip()]
    if not found:
        raise UsageError(f"sparsify: there is no text in {', '.join(arguments.data)}")
    random.Random(arguments.seed).shuffle(found)
    count = arguments.limit + (arguments.learn_texts if arguments.learn else 0)
    texts = [text for text, _ in found[:count]]
    if arguments.label is None:
        return texts, None
    names = sorted({label for _, label in found})
    names = sorted(names, key=int) if all(name.isdigit() for name in names) else names
    return texts, [names.index(label) for _, label in found[:count]]


def _read_texts(name: str, arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Yield text and label of each record of a table, or each document of text files with ""."""
    from graphformer.data.io.tabular import find_records, read_text_pairs
    from graphformer.data.io.text_files import find_sources, read_pieces, total_size

    if name.removesuffix(".gz").endswith(TABLES):
        file = find_records(name, arguments.root)
        rows = read_text_pairs(
            file, arguments.text, arguments.label or arguments.text, arguments.encoding
        )
        yield from ((text, label) for _, text, label in rows)
        return
    if arguments.label is not None:
        raise UsageError(f"sparsify: --label: got {name}, expected a .jsonl, .tsv or .csv file")
    sources = find_sources(name, "**/*.txt", arguments.root, arguments.encoding)
    kind: Any = arguments.documents or ("line" if sources[0].path.suffix == ".txt" else "file")
    text = ""
    for piece, is_end in read_pieces(sources, 0, total_size(sources), documents=kind):
        text += piece
        if is_end:
            yield text, ""
            text = ""
    if text:
        yield text, ""


def _batches(texts: list[str], encode: Encoder, tokens: int) -> Batches:
    """Return a function from a length to batches of about `tokens` tokens of truncated texts."""
    from graphformer.data.batch import pack_tokens

    def batches(size: int) -> list[BatchLike]:
        ids = [row for row in encode(texts, size) if row]
        count = max(tokens // size, 1)
        return [pack_tokens(ids[start : start + count]) for start in range(0, len(ids), count)]

    return batches


def _check_lengths(requested: list[int], network: Any) -> list[int]:
    """Return the lengths in ascending order, or refuse those that the network cannot process."""
    from graphformer.models.generation import max_length

    longest = max_length(network)
    for size in requested:
        if size < 2 or (longest is not None and size > longest):
            high = "" if longest is None else f" and at most {longest}, the model's positions"
            raise UsageError(f"sparsify: --lengths: got {size}, expected at least 2{high}")
    return sorted(set(requested))


def _original_name(original: Pattern, requested: dict[str, Pattern]) -> str:
    """Return the word for the original if it is requested, otherwise its repr."""
    same = [text for text, pattern in requested.items() if pattern == original]
    return same[0] if same else f"{original} (original)"


def _learn_patterns(
    model: MeasuredModel, batches: Sequence[BatchLike], arguments: argparse.Namespace
) -> dict[str, Pattern]:
    """Return patterns that keep shares of the attention weight on batches; store each in a file."""
    from graphformer.models.sparsify import learn_adjacency
    from graphformer.patterns import save_pattern

    if not hasattr(model.network, "with_adjacency"):
        kind = type(model.network).__name__
        raise UsageError(f"sparsify: --learn: got a {kind}, expected a graphformer Model")
    network = model.network.with_adjacency(model.original)
    learned = {}
    for share in arguments.learn:
        name = f"learned {share:g} a {arguments.per}"
        learned[name] = learn_adjacency(network, batches, share=share, per=arguments.per)
        save_pattern(learned[name], arguments.out / f"learned_{share:g}_{arguments.per}.json")
    return learned


def _measure(
    model: MeasuredModel,
    patterns: dict[str, Pattern],
    batches: Batches,
    sizes: list[int],
    arguments: argparse.Namespace,
) -> list[Measurement]:
    """Measure all patterns at all lengths, with the progress on a terminal."""
    from rich.console import Console

    from graphformer.cli.tradeoff import measure_tradeoff

    console = Console(stderr=True)

    def show(text: str) -> None:
        if console.is_terminal:
            console.print(text.ljust(70), end="\r")

    model.choose_measure(batches(sizes[0])[0])
    clock = CLOCKS[arguments.clock]
    measurements = list(
        measure_tradeoff(
            model, patterns, batches, sizes, rounds=arguments.rounds, clock=clock, progress=show
        )
    )
    show("")
    return measurements


def _print_table(measurements: list[Measurement], measure: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("tokens", "pattern", header_style="bold")
    for column in (measure, "edges/token", "ms/text", "time", "memory, MB"):
        table.add_column(column, justify="right")
    for length in sorted({m.length for m in measurements}):
        group = [m for m in measurements if m.length == length]
        for m in group:
            table.add_row(
                str(length) if m is group[0] else "",
                m.pattern,
                f"{m.quality:.4f}",
                f"{m.edges:.1f}",
                f"{m.milliseconds:.2f}",
                f"{m.milliseconds / group[0].milliseconds:.2f}x",
                f"{m.memory / 1e6:.1f}",
            )
        table.add_section()
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)


def _write_results(
    measurements: list[Measurement], measure: str, num_texts: int, arguments: argparse.Namespace
) -> None:
    import torch

    from graphformer.cli.run_dir import write_atomically

    report = {
        "model": arguments.name or Path(arguments.model).name,
        "clock": arguments.clock,
        "data": arguments.data,
        "texts": num_texts,
        "seed": arguments.seed,
        "measure": measure,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "figures": [asdict(measurement) for measurement in measurements],
    }
    write_atomically(arguments.out / "results.json", json.dumps(report, indent=2) + "\n")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("sparsify", "Measure a trained text model with other adjacencies.")
    add, positive = parser.add_argument, whole_number(1)
    share = number(0, 1, low_included=False)
    add("--model", required=True, help="a Hugging Face folder, a checkpoint, or a run")
    add("--patterns", nargs="+", required=True, help="NAME[:setting=value,...][+NAME...]")
    add("--data", nargs="+", required=True, help="texts: .txt, .jsonl, .tsv, folders, archives")
    add("--lengths", nargs="+", type=int, default=[128, 256, 512], help="maximum tokens of a text")
    add("--limit", type=positive, default=64, help="number of texts")
    add("--text", default="text", help=".jsonl, .tsv: the field of the text")
    add("--label", help=".jsonl, .tsv: the field of the class; the quality is then the accuracy")
    add("--documents", choices=["file", "line", "paragraph"], help="the unit that is one text")
    add("--learn", nargs="+", type=share, default=[], help="learn edges with these shares")
    add(
        "--per",
        choices=["model", "layer", "head"],
        default="layer",
        help="unit of learned edges",
    )
    add("--learn-texts", type=positive, default=16, help="number of texts for --learn")
    add("--batch-tokens", type=positive, default=4096, help="number of tokens of a batch")
    add("--rounds", type=positive, default=5, help="number of timed rounds")
    add("--clock", choices=list(CLOCKS), default="wall", help="cpu: for a machine with other load")
    add("--name", help="of the model, for the figure")
    add("--out", type=Path, default=Path("sparsify"), help="folder of the results and the figure")
    add("--encoding", default="utf-8", help="of the texts, such as utf-16")
    add("--root", help="the data root")
    add("--seed", type=int, default=0, help="of the choice of texts")
    return parser.parse_args(list(argv))
