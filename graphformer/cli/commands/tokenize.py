"""`graphformer tokenize`: trains a tokenizer on files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from graphformer.cli.config.command_parser import CommandParser, whole_number
from graphformer.cli.errors import UsageError


def main(argv: Sequence[str]) -> int:
    """Train a tokenizer and write it to a file; return 0.

    Raises:
        UsageError: when the arguments or the files are wrong.
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
    """Yield the texts of all files, with the progress on a terminal."""
    from graphformer.data.io.tabular import read_records
    from graphformer.data.io.text_files import find_sources, read_pieces, total_size
    from graphformer.data.text.records import fill

    for name in arguments.files:
        sources = find_sources(name, arguments.glob, arguments.root, arguments.encoding)
        if arguments.template is not None:
            for path in (source.path for source in sources):
                records = read_records(path, encoding=arguments.encoding)
                yield from (fill(arguments.template, r, path, n) for n, r in records)
            continue
        size, num_read = total_size(sources), 0
        for text, _ in read_pieces(sources, 0, size, raw=arguments.kind == "bytes"):
            num_read += len(text)
            if sys.stderr.isatty():
                print(f"\r{name}: {num_read / 1e6:.0f} MB read", end="", file=sys.stderr)
            yield text
        if sys.stderr.isatty():
            print(file=sys.stderr)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("tokenize", "Train a tokenizer on files.")
    add = parser.add_argument
    add("files", nargs="+", help="text files, folders, zip archives or JSON lines")
    add("--kind", choices=["characters", "bytes", "bpe", "wordpiece"], default="bpe")
    add("--vocab-size", type=int, help="the maximum number of tokens; 8192 for bpe and wordpiece")
    add("--out", type=Path, required=True, help="the .json file to write")
    add("--sentinels", type=whole_number(0), default=0, help="add <extra_0> ... for T5")
    add("--lowercase", action="store_true", help="wordpiece: ignore case")
    add("--glob", default="**/*.txt", help="which files of a folder or archive to read")
    add("--template", help="the text of a record, with fields in braces")
    add("--encoding", default="utf-8", help="of the files, such as utf-16")
    add("--root", help="the data root")
    arguments = parser.parse_args(list(argv))
    if arguments.out.suffix != ".json":
        raise UsageError(
            f"tokenize: --out: got {arguments.out}, expected a name that ends in .json"
        )
    if arguments.lowercase and arguments.kind != "wordpiece":
        raise UsageError(
            f"tokenize: --lowercase: got --kind {arguments.kind}, expected --kind wordpiece"
        )
    return arguments
