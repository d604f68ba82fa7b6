"""Write a TSV of translated pairs without a download: numbers in English and in French words.

    python experiments/number_pairs.py --pairs 20000 --out numbers.tsv
    graphformer fit -c experiments/translation.yaml --data TextPairs --data.path numbers.tsv

"ninety-one thousand two hundred and eighty" is "quatre-vingt-onze mille deux cent quatre-vingts":
French counts in twenties from sixty on, and what is plural depends on what follows, so that words
cannot be translated one by one.
Every number below a million is equally likely to be among the pairs, none twice.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

# fmt: off
ENGLISH = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen"
]
ENGLISH_TENS = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"
]
FRENCH = [
    "zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze",
    "douze", "treize", "quatorze", "quinze", "seize", "dix-sept", "dix-huit", "dix-neuf"
]
FRENCH_TENS = [
    "vingt", "trente", "quarante", "cinquante", "soixante", "soixante", "quatre-vingt",
    "quatre-vingt"
]
# fmt: on


def english(number: int) -> str:
    """A number below a million in words: 342 is "three hundred and forty-two"."""
    if number >= 1000:
        thousands, rest = divmod(number, 1000)
        link = " and " if 0 < rest < 100 else " "
        return f"{english(thousands)} thousand{link + english(rest) if rest else ''}"
    if number >= 100:
        hundreds, rest = divmod(number, 100)
        return f"{ENGLISH[hundreds]} hundred{' and ' + english(rest) if rest else ''}"
    if number < 20:
        return ENGLISH[number]
    tens, ones = divmod(number, 10)
    return ENGLISH_TENS[tens - 2] + (f"-{ENGLISH[ones]}" if ones else "")


def french(number: int) -> str:
    """A number below a million in words: 342 is "trois cent quarante-deux"."""
    if number >= 1000:
        thousands, rest = divmod(number, 1000)
        counted = "" if thousands == 1 else f"{_bare(thousands)} "
        return f"{counted}mille{' ' + french(rest) if rest else ''}"
    if number >= 100:
        hundreds, rest = divmod(number, 100)
        counted = "" if hundreds == 1 else f"{FRENCH[hundreds]} "
        plural = "s" if hundreds > 1 and not rest else ""
        return f"{counted}cent{plural}{' ' + french(rest) if rest else ''}"
    if number < 20:
        return FRENCH[number]
    tens, ones = divmod(number, 10)
    word = FRENCH_TENS[tens - 2]
    if tens in (7, 9):
        ones += 10
    if not ones:
        return "quatre-vingts" if tens == 8 else word
    return f"{word} et {FRENCH[ones]}" if ones in (1, 11) and tens < 8 else f"{word}-{FRENCH[ones]}"


def _bare(number: int) -> str:
    """As before "mille", where "cents" and "quatre-vingts" lose their plural."""
    words = french(number)
    return words.removesuffix("s") if words.endswith(("cents", "vingts")) else words


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("numbers.tsv"))
    arguments = parser.parse_args()
    numbers = random.Random(arguments.seed).sample(range(1_000_000), arguments.pairs)
    lines = [f"{english(number)}\t{french(number)}\n" for number in numbers]
    arguments.out.write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines):,} pairs in {arguments.out}, such as: {lines[0].strip()}")


if __name__ == "__main__":
    main()
