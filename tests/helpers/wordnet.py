"""A small file in WordNet's format wndb."""

from __future__ import annotations

from pathlib import Path

LICENCE = "  1 This software and database is being provided to you  \n"
ANIMALS = {
    100: (["animal"], [("~", 200), ("~", 300), ("~", 400)], "a living organism that moves"),
    200: (["dog", "domestic_dog"], [("@", 100), ("~", 500), ("~", 600), ("!", 300)],
          'an animal that barks; "the dog barked"'),
    300: (["cat"], [("@", 100), ("~", 700), ("!", 200)], "an animal that catches mice"),
    400: (["bird"], [("@", 100), ("@", 900)], "an animal with feathers and wings"),
    500: (["puppy"], [("@", 200)], "a young dog"),
    600: (["terrier"], [("@", 200)], "a small dog that hunts"),
    700: (["kitten"], [("@", 300)], "a young cat"),
    900: (["stone"], [("~", 400)], "a hard object"),
}  # fmt: skip
"""Words, pointers and gloss by offset; the stone is no animal, though a pointer says so."""


def synset_line(offset: int, words: list[str], pointers: list[tuple[str, int]], gloss: str) -> str:
    parts = [f"{offset:08d}", "03", "n", f"{len(words):02x}"]
    parts += [part for word in words for part in (word, "0")]
    parts.append(f"{len(pointers):03d}")
    parts += [part for symbol, to in pointers for part in (symbol, f"{to:08d}", "n", "0000")]
    return f"{' '.join(parts)} | {gloss}  \n"


def write_animals(folder: Path) -> Path:
    file = folder / "data.noun"
    lines = [synset_line(offset, *synset) for offset, synset in ANIMALS.items()]
    file.write_text(LICENCE + "".join(lines), encoding="utf-8")
    return file
