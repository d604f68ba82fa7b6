"""How well a text answers: exact match, F1 over words, BLEU."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normal_form(text: str) -> str:
    """Return a text in lower case, without punctuation, articles and superfluous blanks.

    Source: Rajpurkar et al., 2016 (SQuAD), evaluation script.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, reference: str) -> float:
    """Return 1 if the texts have the same normal form, else 0."""
    return float(normal_form(answer) == normal_form(reference))


def token_f1(answer: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of an answer's words.

    Source: Rajpurkar et al., 2016 (SQuAD), section 6.1.
    """
    given, wanted = normal_form(answer).split(), normal_form(reference).split()
    shared = sum((Counter(given) & Counter(wanted)).values())
    if not shared:
        return float(given == wanted)
    return 2 * shared / (len(given) + len(wanted))


def bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the corpus BLEU of answers with one reference each, from 0 to 100.

    Raises ModuleNotFoundError without sacrebleu. Source: Papineni et al., 2002; Post, 2018.
    """
    try:
        import sacrebleu
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "BLEU needs sacrebleu: install the extra, pip install 'graphformer[text]'"
        ) from None
    return float(sacrebleu.corpus_bleu(list(answers), [list(references)]).score)
