"""The command `graphformer`. What is quick (`list`, `--version`, `--help`) imports no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from graphformer import __version__
from graphformer.cli.errors import UsageError
from graphformer.options import suggestion

USAGE = """usage: graphformer COMMAND ...

  fit        train:          graphformer fit -c experiments/X.yaml [-c datasets/Y.yaml]
             resume:         graphformer fit --ckpt runs/.../last.ckpt
             many runs:      graphformer fit -c ... -c ... --folds 10 --seeds 10 [--jobs 2]
  validate   evaluate on the validation split: graphformer validate --ckpt PATH
  test       evaluate on the test split:       graphformer test --ckpt PATH
  predict    write the network's outputs for the test split to a file
  tokenize   learn a vocabulary: graphformer tokenize --kind bpe --out vocabulary.json FILES
  generate   continue a text:   graphformer generate --ckpt PATH --prompt "Once upon"
  evaluate   ask a language model questions: graphformer evaluate --ckpt PATH --tasks FILE ...
  probe      classify images by frozen features: graphformer probe --ckpt PATH --method knn
  draw       pictures of attention, reconstructions, words, retrieval, curves as PNG
  sparsify   other adjacencies for a trained model: graphformer sparsify --model PATH --patterns ...
  list       show tasks, patterns, networks, data sets and experiments
  demo       train one Transformer on images, text and a graph

Any setting of the YAML files can be overridden, as in `--model.lr 1e-3 --trainer.max_epochs 5`.
`--adjacency NAME` (and `--adjacency.radius 4`) chooses who attends to whom, also for a model that
is trained already. `graphformer COMMAND --help` lists everything.
"""
COMMANDS = (
    "fit", "validate", "test", "predict", "tokenize", "generate", "evaluate", "probe", "draw",
    "sparsify", "list", "demo",
)  # fmt: skip
MANY = ("--folds", "--seeds", "--jobs")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for wrong usage, 130 after Ctrl-C.

    It is 141 where nobody reads on, as in `graphformer generate ... | head`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()  # not at exit, where a closed pipe would be a traceback
        return code
    except UsageError as error:
        print(f"graphformer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 141


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
    if command == "list":
        from graphformer.cli.commands.list import print_catalog

        return print_catalog(arguments[1:])
    if command == "demo":
        from graphformer.cli.commands import demo

        return int(demo.main(arguments[1:]) or 0)
    if command in ("tokenize", "generate", "evaluate", "probe", "draw", "sparsify"):
        return int(import_module(f"graphformer.cli.commands.{command}").main(arguments[1:]))
    if command == "fit" and any(word.partition("=")[0] in MANY for word in arguments):
        from graphformer.cli.many_runs.repeat import repeat

        return repeat(arguments)
    from graphformer.cli.commands.fit import run

    return run(arguments)
