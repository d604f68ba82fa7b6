"""`graphformer trust`: a report on whether a trained model can be relied on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphformer.cli.config.command_parser import CommandParser, whole_number
from graphformer.cli.errors import UsageError

if TYPE_CHECKING:
    from graphformer.tasks import Task
    from graphformer.trust import Report, Run

SECTION_NAMES = (
    "calibration",
    "consistency",
    "explanation",
    "fairness",
    "leaks",
    "norms",
    "privacy",
    "robustness",
    "safety",
)


def main(argv: Sequence[str]) -> int:
    """Write report.html, report.json and README.md into a folder; return 0.

    Raises:
        UsageError: when the arguments, the checkpoint or the data are wrong.
    """
    arguments = _parse(argv)
    from graphformer.cli.checkpoints import restore_task, store_temperature
    from graphformer.cli.config.arguments import find_checkpoint
    from graphformer.cli.console import print_metrics
    from graphformer.cli.errors import plain_errors
    from graphformer.cli.run_data import restore_data
    from graphformer.trust import Run

    with plain_errors():
        ckpt = find_checkpoint(arguments.ckpt, "trust")
        task = restore_task(ckpt)
        data = restore_data(ckpt, arguments.config)
        run = Run(
            task, data, seed=arguments.seed, max_batches=arguments.max_batches,
            group=arguments.group, suffix_steps=arguments.suffix_steps,
            suffix_target=arguments.suffix_target, chat=arguments.chat,
        )  # fmt: skip
        _add_texts(run, arguments)
        run.others = _other_runs(ckpt, arguments.runs)
        report = _report(run, ckpt, arguments.only)
        _write(report, Path(arguments.out))
        for section in report.sections:
            if section.metrics:
                print_metrics([section.metrics], section.title)
            temperature = section.metrics.get("temperature")
            if temperature is not None and arguments.config is None:
                store_temperature(ckpt, temperature)
                print(f"stored the temperature {temperature:.4g} in {ckpt}, for `predict`")
    print(f"wrote {arguments.out}/report.html, report.json and README.md")
    return 0


def _add_texts(run: Run, arguments: argparse.Namespace) -> None:
    """Read the files of texts, and the language model from before tuning."""
    from graphformer.cli.checkpoints import chat_encoder, load_text_model
    from graphformer.cli.commands.safety import read_prompt_list
    from graphformer.data.io.tabular import find_records
    from graphformer.tasks.text.safety import Lexicon
    from graphformer.trust import read_norms
    from graphformer.trust.run import generates_text, language_model

    if arguments.prompts is not None:
        run.prompts = read_prompt_list(arguments.prompts, "prompt", None)
    if arguments.toxicity is not None:
        run.toxicity = Lexicon(arguments.toxicity)
    if arguments.items is not None:
        run.norms = read_norms(find_records(arguments.items, None))
    if arguments.paraphrases is not None:
        run.paraphrases = _read_pairs(find_records(arguments.paraphrases, None))
    if arguments.before is not None:
        run.before = load_text_model(arguments.before, "trust")
        if not generates_text(run.before):
            raise UsageError(
                f"trust: --before: got {arguments.before}, which generates no text, expected a "
                "language model; choose another run"
            )
    if arguments.chat:
        models = [model for model in (language_model(run), run.before) if model is not None]
        if not models:
            raise UsageError("trust: --chat: got a run that generates no text; leave --chat out")
        for model in models:
            chat_encoder(model.tokenizer)


def _other_runs(ckpt: Path, names: Sequence[str]) -> dict[str, Task]:
    """Return the tasks of further runs, or of all runs in a folder, by name; not the own one.

    Raises:
        UsageError: when a run has other settings than the own one, or its data is split by its
            seed, so that it may have trained on the test samples.
    """
    from graphformer.cli.checkpoints import restore_task
    from graphformer.cli.config.arguments import find_checkpoint

    found: dict[str, Task] = {}
    for name in names:
        inner = sorted(path.parent for path in Path(name).glob("*/checkpoints"))
        for folder in inner or [Path(name)]:
            other = find_checkpoint(str(folder), "trust")
            if other.resolve().parent != ckpt.resolve().parent:
                _check_one_setting(ckpt, other)
                found[str(folder)] = restore_task(other)
    if names and not found:
        raise UsageError(f"trust: --runs: got {names[0]}, expected runs beside that of --ckpt")
    return found


def _check_one_setting(ckpt: Path, other: Path) -> None:
    """Refuse a run whose model or data has other settings, or whose split depends on its seed."""
    import yaml

    from graphformer.cli.checkpoints import stored_config

    own, its = (yaml.safe_load(stored_config(path, whole=False)) for path in (ckpt, other))
    for part in ("model", "data"):
        if own[part] != its[part]:
            raise UsageError(
                f"trust: --runs: got {other}, whose settings of {part} are others, expected runs "
                "of one setting; leave it out"
            )
    arguments = its["data"].get("init_args") or {}
    seeds = its["seed_everything"], own["seed_everything"]
    if arguments.get("seed", 0) is None and seeds[0] != seeds[1]:
        raise UsageError(
            f"trust: --runs: got {other}, whose data is split by its own seed, expected one split; "
            "train with a number as --data.seed"
        )


def _read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return the fields `text` and `paraphrase` of the records of a file."""
    from graphformer.data.io.tabular import get_text, read_records

    pairs = [
        (get_text(record, "text", path, n), get_text(record, "paraphrase", path, n))
        for n, record in read_records(path)
    ]
    if not pairs:
        raise UsageError(f"trust: --paraphrases: got {path}, which has none, expected one a record")
    return pairs


def _report(run: Run, ckpt: Path, names: Sequence[str]) -> Report:
    from graphformer.trust import Report
    from graphformer.trust.inputs import check_inputs
    from graphformer.trust.run import model_facts
    from graphformer.trust.sections import SECTIONS

    check_inputs(run, names)
    facts = {**model_facts(run.task, run.data), "checkpoint": str(ckpt)}
    return Report(
        _title(ckpt.resolve().parent.parent), facts, [SECTIONS[name](run) for name in names]
    )


def _title(folder: Path) -> str:
    """Return the name of a run: of runs/<experiment>/<run>, or one of `fit --seeds` below that."""
    if (folder / "result.json").is_file():
        return f"{folder.parent.parent.name}, run {folder.parent.name}/{folder.name}"
    return f"{folder.parent.name}, run {folder.name}"


def _write(report: Report, folder: Path) -> None:
    from graphformer.cli.run_dir import write_atomically
    from graphformer.trust import model_card, render_html

    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "report.html", render_html(report))
    content = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "report.json", content + "\n")
    write_atomically(folder / "README.md", model_card(report))


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("trust", "Report whether a trained model can be relied on.")
    add = parser.add_argument
    add("--ckpt", required=True, help="a checkpoint, or the folder of a run")
    add("-c", "--config", help="data, such as datasets/X.yaml; otherwise the run's")
    add("--only", nargs="+", choices=SECTION_NAMES, default=SECTION_NAMES, help="the sections")
    add("--out", default="report", help="the folder to write")
    add("--max-batches", type=whole_number(1), help="maximum number of batches of each split")
    add("--group", help="fairness: a column of the data, or a field of its batches")
    add("--prompts", help="safety: prompts to refuse; .txt with one a line, JSON lines or a table")
    add("--toxicity", help="safety: a file of words that make an answer toxic")
    add("--suffix-steps", type=whole_number(0), default=0, help="safety: steps of each attack")
    add("--suffix-target", default="Sure, here is", help="safety: beginning of the wanted answer")
    add("--paraphrases", help="consistency: a table or JSON lines with text and paraphrase")
    add("--items", help="norms: JSON lines with prompt, options, answer, category")
    add("--runs", nargs="+", default=[], help="consistency: runs of other seeds, or their folder")
    add("--before", help="safety, norms: the run or model from before tuning, to compare with")
    add("--chat", action="store_true", help="safety, norms: ask by the model's chat template")
    add("--seed", type=int, default=0, help="of all random draws")
    arguments = parser.parse_args(list(argv))
    if Path(arguments.out).is_file():
        raise UsageError(f"trust: --out: got the file {arguments.out}, expected a folder")
    return arguments
