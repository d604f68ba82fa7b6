"""`graphformer tokenize`: learn a vocabulary from files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from graphformer.cli.errors import UsageError


def main(argv: Sequence[str]) -> int:
    """Learn a tokenizer and write it; return 0.

    Raises:
        UsageError: the arguments or the files are wrong.
    """
    arguments = _parse(argv)
    from graphformer.data.io.cache import MissingDataError
    from graphformer.data.text.tokenizer import SPECIAL_TOKENS
    from graphformer.data.text.tokenizer_training import ReiterableTexts, train_tokenizer

    special = [*SPECIAL_TOKENS, *(f"<extra_{i}>" for i in range(arguments.sentinels))]
    try:
        tokenizer = train_tokenizer(
            arguments.kind,
            ReiterableTexts(lambda: _texts(arguments)),
            vocab_size=arguments.vocab_size,
            special_tokens=special,
            lowercase=arguments.lowercase,
            progress=sys.stderr.isatty(),
        )
    except (MissingDataError, ValueError) as error:
        raise UsageError(f"tokenize: {error}".rstrip(".")) from error
    try:
        tokenizer.save(arguments.out)
    except OSError as error:
        raise UsageError(
            f"tokenize: cannot write --out {arguments.out}: {error.strerror}"
        ) from error
    print(f"{tokenizer.vocab_size:,} tokens ({arguments.kind}) in {arguments.out}")
    return 0


def _texts(arguments: argparse.Namespace) -> Iterator[str]:
    from graphformer.data.io.tabular import read_records
    from graphformer.data.io.text_files import find_sources, read_pieces, total_size
    from graphformer.data.text.records import fill

    for name in arguments.files:
        sources = find_sources(name, arguments.glob, arguments.root)
        if arguments.template is not None:
            for path in (source.path for source in sources):
                yield from (fill(arguments.template, r, path, n) for n, r in read_records(path))
            continue
        size, done = total_size(sources), 0
        for text, _ in read_pieces(sources, 0, size, raw=arguments.kind == "bytes"):
            done += len(text)
            if sys.stderr.isatty():
                print(f"\r{name}: {done / 1e6:.0f} MB read", end="", file=sys.stderr)
            yield text
        if sys.stderr.isatty():
            print(file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"tokenize: {message}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="graphformer tokenize", description="Learn a vocabulary from files.")
    parser.add_argument("files", nargs="+", help="text files, folders, zip archives or JSON lines")
    parser.add_argument(
        "--kind", choices=["characters", "bytes", "bpe", "wordpiece"], default="bpe"
    )
    parser.add_argument("--vocab-size", type=int, default=None, help="the most tokens; 8192")
    parser.add_argument("--out", type=Path, required=True, help="where to write, .json")
    parser.add_argument("--sentinels", type=int, default=0, help="add <extra_0> ... for T5")
    parser.add_argument("--lowercase", action="store_true", help="wordpiece: ignore case")
    parser.add_argument("--glob", default="**/*.txt", help="which files of a folder or archive")
    parser.add_argument("--template", help="of records: their text, with fields in braces")
    parser.add_argument("--root", help="the data root")
    arguments = parser.parse_args(list(argv))
    if arguments.out.suffix != ".json":
        raise UsageError(f"tokenize: --out must end in .json, got {arguments.out}")
    if arguments.sentinels < 0:
        raise UsageError(f"tokenize: --sentinels must be 0 or more, got {arguments.sentinels}")
    if arguments.lowercase and arguments.kind != "wordpiece":
        raise UsageError(f"tokenize: --lowercase is for --kind wordpiece, got {arguments.kind}")
    return arguments
