"""`graphformer sparsify`: what other adjacencies cost a trained model, and what they save."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphformer.cli.errors import UsageError

if TYPE_CHECKING:
    from graphformer.cli.tradeoff import Measurement
    from graphformer.patterns import Pattern

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
LEARN_TOKENS = 1024  # at once: attention weights of all layers are kept


def main(argv: Sequence[str]) -> int:
    """Measure patterns on texts; print a table, write figures and a picture; return 0.

    Raises:
        UsageError: the arguments, the model or the data are wrong.
    """
    arguments = _parse(argv)
    from graphformer.cli.config.pattern_syntax import parse_pattern
    from graphformer.cli.errors import plain_errors
    from graphformer.cli.plots.tradeoff import draw_tradeoff
    from graphformer.cli.tradeoff import MeasuredModel, measure_tradeoff

    spelled = {text: parse_pattern(text) for text in arguments.patterns}
    with plain_errors():
        network, original, encode = _model(arguments.model)
        texts, labels = _texts(arguments)
        taught = texts[: arguments.learn_texts] if arguments.learn else []
        texts, labels = texts[len(taught) :], labels[len(taught) :] if labels else None
        if not texts:
            raise UsageError("sparsify: no text is left to measure: lower --learn-texts")
        sizes = _sizes(arguments.lengths, network)
        subject = MeasuredModel(network, original, labels)
        patterns = {_name(original, spelled): original, **spelled}
        arguments.out.mkdir(parents=True, exist_ok=True)
        if arguments.learn:
            patterns |= _learned(subject, _batches(taught, encode, LEARN_TOKENS), sizes, arguments)
        batches = _batches(texts, encode, arguments.batch_tokens)
        subject.probe(batches(sizes[0])[0])
        show = _progress()
        figures = list(
            measure_tradeoff(
                subject,
                patterns,
                batches,
                sizes,
                rounds=arguments.rounds,
                clock=CLOCKS[arguments.clock],
                progress=show,
            )
        )
        show("")
    _print(figures, subject.measure)
    _write(figures, subject.measure, len(texts), arguments)
    name = arguments.name or Path(arguments.model).name
    title = f"{name}: what sparser attention costs, and what it saves"
    picture = arguments.out / "tradeoff.png"
    draw_tradeoff(figures, subject.measure, title, picture)
    print(f"written: {arguments.out / 'results.json'}, {picture}")
    return 0


def _model(name: str) -> tuple[Any, Pattern, Callable[[list[str], int], list[list[int]]]]:
    """A network, its adjacency, and what gives ids of texts, of a folder or a run."""
    from graphformer.cli.checkpoints import restore_task, restore_text_tokenizer
    from graphformer.cli.config.arguments import find_checkpoint
    from graphformer.pretrained import from_pretrained
    from graphformer.tasks.warm_start import is_hf_folder

    network: Any
    if is_hf_folder(name):
        network = from_pretrained(name)
        original, tokenizer = network.adjacency, network.tokenizer
        if tokenizer is None:
            raise UsageError(f"sparsify: {name} has no tokenizer.json")
    else:
        ckpt = find_checkpoint(name, "sparsify")
        task = restore_task(ckpt)
        network, original = task.network, task.adjacency
        tokenizer = restore_text_tokenizer(ckpt)

    def encode(texts: list[str], size: int) -> list[list[int]]:
        if hasattr(tokenizer, "ids"):
            ids: list[list[int]] = tokenizer.ids(texts, max_length=size)
            return ids
        return [each[:size].tolist() for each in tokenizer.encode_batch(texts)]

    return network, original, encode


def _texts(arguments: argparse.Namespace) -> tuple[list[str], list[int] | None]:
    """The texts of all files, shuffled, and the number of each one's label, if it has one."""
    import random

    from graphformer.data.io.tabular import find_file, read_text_pairs
    from graphformer.data.io.text_files import find_sources, read_pieces, total_size

    found: list[tuple[str, str]] = []
    for name in arguments.data:
        if name.removesuffix(".gz").endswith((".jsonl", ".tsv", ".csv")):
            file = find_file(name, arguments.root)
            rows = read_text_pairs(file, arguments.text, arguments.label or arguments.text)
            found += [(text, label) for _, text, label in rows]
            continue
        if arguments.label is not None:
            raise UsageError(f"sparsify: --label is for .jsonl, .tsv and .csv files, got {name}")
        sources = find_sources(name, "**/*.txt", arguments.root)
        kind: Any = arguments.documents or ("line" if sources[0].path.suffix == ".txt" else "file")
        text = ""
        for piece, ends in read_pieces(sources, 0, total_size(sources), documents=kind):
            text += piece
            if ends:
                found.append((text, ""))
                text = ""
        found += [(text, "")] if text else []
    found = [(text, label) for text, label in found if text.strip()]
    if not found:
        raise UsageError(f"sparsify: there is no text in {', '.join(arguments.data)}")
    random.Random(arguments.seed).shuffle(found)
    wanted = arguments.limit + (arguments.learn_texts if arguments.learn else 0)
    labels = sorted({label for _, label in found})
    labels = sorted(labels, key=int) if all(label.isdigit() for label in labels) else labels
    numbers = [labels.index(label) for _, label in found[:wanted]]
    return [text for text, _ in found[:wanted]], None if arguments.label is None else numbers


def _batches(texts: list[str], encode: Any, tokens: int) -> Callable[[int], list[Any]]:
    """Makes all texts, cut to a size, into batches of about so many tokens."""
    from graphformer.models import packed

    def batches(size: int) -> list[Any]:
        ids = [row for row in encode(texts, size) if row]
        count = max(tokens // size, 1)
        return [packed(ids[start : start + count]) for start in range(0, len(ids), count)]

    return batches


def _sizes(wanted: list[int], network: Any) -> list[int]:
    from graphformer.models.generation import max_length

    longest = max_length(network)
    for size in wanted:
        if size < 2 or (longest is not None and size > longest):
            most = "" if longest is None else f" and at most {longest}, as the model has positions"
            raise UsageError(f"sparsify: --lengths must be at least 2{most}, got {size}")
    return sorted(set(wanted))


def _name(original: Pattern, spelled: dict[str, Pattern]) -> str:
    """How the original was spelled, or its own name."""
    same = [text for text, pattern in spelled.items() if pattern == original]
    return same[0] if same else f"{original} (original)"


def _learned(
    subject: Any, batches: Any, sizes: list[int], arguments: argparse.Namespace
) -> dict[str, Pattern]:
    """Patterns that keep shares of the attention on the first texts; each is stored in a file."""
    from graphformer.models.sparsify import learn_adjacency
    from graphformer.patterns import save_pattern

    if not hasattr(subject.network, "with_adjacency"):
        raise UsageError("sparsify: --learn needs a network that is a graphformer Model")
    model = subject.network.with_adjacency(subject.original)
    found = {}
    for share in arguments.learn:
        name = f"learned {share:g} a {arguments.per}"
        found[name] = learn_adjacency(model, batches(max(sizes)), share=share, per=arguments.per)
        save_pattern(found[name], arguments.out / f"learned_{share:g}_{arguments.per}.json")
    return found


def _progress() -> Callable[[str], None]:
    from rich.console import Console

    console = Console(stderr=True)

    def show(text: str) -> None:
        if console.is_terminal:
            console.print(text.ljust(70), end="\r")

    return show


def _print(figures: list[Measurement], measure: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("tokens", "pattern", header_style="bold")
    for column in (measure, "edges a token", "ms a text", "time", "memory, MB"):
        table.add_column(column, justify="right")
    for length in sorted({each.length for each in figures}):
        own = [each for each in figures if each.length == length]
        for each in own:
            table.add_row(
                str(length) if each is own[0] else "",
                each.pattern,
                f"{each.quality:.4f}",
                f"{each.edges:.1f}",
                f"{each.milliseconds:.2f}",
                f"{each.milliseconds / own[0].milliseconds:.2f}x",
                f"{each.memory / 1e6:.1f}",
            )
        table.add_section()
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)


def _write(
    figures: list[Measurement], measure: str, texts: int, arguments: argparse.Namespace
) -> None:
    import torch

    report = {
        "model": arguments.name or Path(arguments.model).name,
        "clock": arguments.clock,
        "data": arguments.data,
        "texts": texts,
        "seed": arguments.seed,
        "measure": measure,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "figures": [asdict(each) for each in figures],
    }
    (arguments.out / "results.json").write_text(json.dumps(report, indent=2) + "\n")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"sparsify: {message}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="graphformer sparsify",
        description="Measure what other adjacencies cost a trained text model, and what they save.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, help="a folder of Hugging Face's, a checkpoint, or a run")
    add("--patterns", nargs="+", required=True, help="NAME[:setting=value,...][+NAME...]")
    add("--data", nargs="+", required=True, help="texts: .txt, .jsonl, .tsv, folders, archives")
    add("--lengths", nargs="+", type=int, default=[128, 256, 512], help="the most tokens a text")
    add("--limit", type=int, default=64, help="how many texts")
    add("--text", default="text", help=".jsonl, .tsv: the field of the text")
    add("--label", help=".jsonl, .tsv: the field of the class; then accuracy counts")
    add("--documents", choices=["file", "line", "paragraph"], help="what is a text")
    add("--learn", nargs="+", type=float, default=[], help="learn edges with these shares of mass")
    add("--per", choices=["model", "layer", "head"], default="layer", help="who has edges learned")
    add("--learn-texts", type=int, default=16, help="on so many texts, which are not measured")
    add("--batch-tokens", type=int, default=4096, help="of a batch")
    add("--rounds", type=int, default=5, help="of timing")
    add("--clock", choices=list(CLOCKS), default="wall", help="cpu: on a machine that is busy")
    add("--name", help="of the model, for the picture")
    add("--out", type=Path, default=Path("sparsify"), help="folder of the figures and the picture")
    add("--root", help="the data root")
    add("--seed", type=int, default=0, help="of the choice of texts")
    arguments = parser.parse_args(list(argv))
    wrong = [share for share in arguments.learn if not 0 < share <= 1]
    if wrong:
        raise UsageError(f"sparsify: --learn must be above 0 and at most 1, got {wrong[0]:g}")
    for name in ("limit", "rounds", "learn_texts", "batch_tokens"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"sparsify: --{name.replace('_', '-')} must be at least 1")
    return arguments
