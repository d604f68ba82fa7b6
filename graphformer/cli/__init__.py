"""Entry point of the `graphformer` command; `list`, `--version` and `--help` import no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from graphformer import __version__
from graphformer.cli.config.imports import name_modules
from graphformer.cli.errors import UsageError
from graphformer.cli.short_help import short_help
from graphformer.options import suggestion

USAGE = """usage: graphformer COMMAND ...

  fit        train:          graphformer fit -c experiments/X.yaml [-c datasets/Y.yaml]
             resume:         graphformer fit --ckpt runs/.../last.ckpt
             many runs:      graphformer fit -c ... -c ... --folds 10 --seeds 10 [--jobs 2]
  sweep      search over settings: graphformer sweep -c ... --search '{model.lr: [1e-3, 1e-2]}'
  plan       memory and FLOPs of a step: graphformer plan -c ... -c ... --memory 80GB
  validate   evaluate on the validation split: graphformer validate --ckpt PATH
  test       evaluate on the test split:       graphformer test --ckpt PATH
  predict    write the network's outputs for the test split to a file
  tokenize   train a tokenizer: graphformer tokenize --kind bpe --out vocabulary.json FILES
  generate   continue a text:   graphformer generate --ckpt PATH --prompt "Once upon"
  evaluate   zero- and few-shot questions: graphformer evaluate --ckpt PATH --tasks FILE ...
             refusals, toxicity, leaks, win rates: graphformer evaluate --ckpt PATH --prompts FILE
  sample     the best of several answers by a reward: graphformer sample --ckpt PATH ...
  safety     the same as evaluate --prompts
  probe      classify images by frozen features: graphformer probe --ckpt PATH --method knn
  draw       plot attention, reconstructions, words, retrieval or training curves as PNG
  trust      calibration and other checks as one HTML page: graphformer trust --ckpt PATH
  export     write a trained model as ONNX or .pt2: graphformer export --ckpt PATH --out m.onnx
  sparsify   measure other adjacencies: graphformer sparsify --model PATH --patterns ...
  runs       what was run, with settings and results: graphformer runs --sort test/accuracy
  scaling    fit and plot scaling laws:  graphformer scaling fit RUNS.csv --flops 1e21
  list       list tasks, patterns, networks, data modules, data sets and experiments
  demo       train one Transformer on images, text and a graph

Any setting of the YAML files can be overridden, as in `--model.lr 1e-3 --trainer.max_epochs 5`.
`--adjacency NAME` (and `--adjacency.radius 4`) sets the adjacency, also of a trained model.
`--trust MODULE` allows the settings in a checkpoint to import a module that is not graphformer's.
`graphformer COMMAND --help` lists all options.
"""
LIGHTNING_COMMANDS = ("fit", "validate", "test", "predict")
"""Commands of LightningCLI, in `commands.fit`; each other command has a module of its own."""
COMMANDS = (
    *LIGHTNING_COMMANDS,
    "tokenize", "generate", "evaluate", "sample", "safety", "probe", "draw", "sparsify",
    "sweep", "plan", "runs", "scaling", "trust", "export",
    "list", "demo",
)  # fmt: skip
MANY_RUNS_OPTIONS = ("--folds", "--seeds", "--jobs")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    The code is 0, 1 if another process of a distributed run has ended, 2 after a usage error or an
    error of the system such as a full disk, 130 after Ctrl-C, and 141 if the reader of a pipe has
    closed it, as in `graphformer generate ... | head`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()  # at exit, a closed pipe would end in a traceback
        return code
    except UsageError as error:
        print(f"graphformer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 141
    except OSError as error:
        if error.errno is None:  # not raised by the system
            raise
        print(f"graphformer: {_system_error(error)}", file=sys.stderr)
        return 2


def _system_error(error: OSError) -> str:
    """Return a sentence such as "runs/a: No space left on device"."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([" -> ".join(names), error.strerror or str(error)] if names else [str(error)])


def _dispatch(arguments: list[str]) -> int:
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if command == "--version":
        print(f"graphformer {__version__}")
        return 0
    if command not in COMMANDS:
        raise UsageError(f"unknown command {command!r}{suggestion(command, COMMANDS)}")
    if command in LIGHTNING_COMMANDS and arguments[1:] in (["--help"], ["-h"]):
        print(short_help(command), end="")
        return 0
    if command in LIGHTNING_COMMANDS and arguments[1:] == ["--help", "all"]:
        arguments = [command, "--help"]
    if os.getcwd() not in sys.path:  # for class paths in the user's folder; last, to shadow nothing
        sys.path.append(os.getcwd())
    arguments = name_modules(arguments)
    if command == "fit" and _asks_for_many_runs(arguments):
        from graphformer.cli.many_runs.repeat import repeat

        return repeat(arguments)
    if command == "sweep":
        from graphformer.cli.many_runs.sweep import main as sweep

        return sweep(arguments[1:])
    if command in LIGHTNING_COMMANDS:
        from graphformer.cli.commands.fit import run

        return run(arguments)
    return int(import_module(f"graphformer.cli.commands.{command}").main(arguments[1:]))


def _asks_for_many_runs(arguments: list[str]) -> bool:
    return any(word.partition("=")[0] in MANY_RUNS_OPTIONS for word in arguments)
