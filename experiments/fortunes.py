"""Write the quotes of Debian's packages fortunes-LANGUAGE as one file a language, a quote a line.

    apt-get download fortunes-de fortunes-es fortunes-it
    for file in fortunes-*.deb; do dpkg -x $file .; done
    python experiments/fortunes.py usr/share/games/fortunes --out <root>/fortunes

Quotes are separated by lines of "%". Equal quotes are written once, blanks and line breaks as one
blank, and pictures of characters (with less than half of letters) are left out.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

LANGUAGES = ("de", "es", "it")


def read_quotes(folder: Path) -> list[str]:
    """Return the different quotes of a folder's files in UTF-8, in their order."""
    files = sorted(f.with_suffix("") for f in folder.glob("*.u8"))
    texts = (re.split(r"^%+$", file.read_text(encoding="utf-8"), flags=re.M) for file in files)
    quotes = (" ".join(quote.split()) for text in texts for quote in text)
    return list(dict.fromkeys(q for q in quotes if is_text(q)))


def is_text(quote: str) -> bool:
    """Whether a quote has some length and most of its characters are letters."""
    return len(quote) >= 20 and 2 * sum(c.isalpha() for c in quote) > len(quote)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with a folder of each language")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for language in LANGUAGES:
        quotes = read_quotes(arguments.folder / language)
        path = arguments.out / f"{language}.txt"
        path.write_text("".join(f"{quote}\n" for quote in quotes), encoding="utf-8")
        print(f"{path}: {len(quotes)} quotes, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
