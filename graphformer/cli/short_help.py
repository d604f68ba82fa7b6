"""`graphformer fit --help`: one screen, with the options of graphformer first; no torch needed."""

from __future__ import annotations

_COMMON = """\
  -c, --config FILE       settings: experiments/X.yaml, datasets/Y.yaml, or their bare names
  --ckpt PATH             a checkpoint, or the folder of a run{ckpt}
  --adjacency NAME        the pattern of attention; --adjacency.SETTING VALUE for its settings,
                          short for --model.adjacency
  --trust MODULE          allow the settings in a checkpoint to import a module
"""
_OWN = {
    "fit": """\
  --folds N --seeds N     many runs: cross-validation folds, random seeds; mean and deviation
  --jobs N                how many of them run in parallel
  --trainer.logger NAME   wandb or mlflow, beside csv and tensorboard; repeatable
  --reset lr              with --ckpt: take the learning rate from the command line
""",
    "predict": """\
  --output FILE           .csv (default predictions.csv), .parquet, .jsonl, or .pt
  --split SPLIT           train, val, test (default) or, for the nodes of one graph, all
""",
}
_SETTINGS = """\
Settings, each as in the YAML files (later ones win):
  --model NAME            the task; --model.lr, --model.network NAME, --model.network.dim ...
  --data NAME             the data module; --data.batch_size ...
  --trainer.SETTING       of Lightning's Trainer: max_epochs, devices, precision, callbacks ...
  --seed_everything N     the random seed

`graphformer list` lists tasks, networks, patterns and data modules with descriptions,
`graphformer {command} --model.help NAME` the settings of a task, `--model.network.help NAME`,
`--adjacency.help NAME` and `--data.help NAME` those of a network, pattern or data module, and
`graphformer {command} --help all` every option.
"""


def short_help(command: str) -> str:
    """Return the help of `fit`, `validate`, `test` or `predict`, at most 40 lines."""
    ckpt = " to resume" if command == "fit" else ""
    common = _COMMON.format(ckpt=ckpt)
    settings = _SETTINGS.format(command=command)
    usage = f"usage: graphformer {command} [options]"
    return f"{usage}\n\nOptions:\n{common}{_OWN.get(command, '')}\n{settings}"
