"""A sentence and facts about its words as one graph: K-BERT's visible matrix.

Facts from a knowledge graph are appended to a sentence. If they were part of the text, every word
would attend to them, which changes the meaning of the sentence. Instead

- the words of the sentence attend to one another;
- the words of a fact attend to one another;
- a fact and the word it is about attend to each other, and no other word attends to the fact.

The first two are the pattern `Documents` (the sentence and each fact are documents of a sample),
the third are edges. Positions are soft: those of a fact continue from the word it is about, as if
the fact alone followed that word.

    python examples/knowledge_text.py

Source: Liu et al., 2020, "K-BERT: enabling language representation with knowledge graph".
"""

from __future__ import annotations

import torch

from graphformer import models
from graphformer.batch_type import Batch
from graphformer.patterns import Documents, Edges, Pattern

SENTENCE = ["Tim", "Cook", "is", "visiting", "Beijing", "now"]
FACTS = {1: ["CEO of Apple"], 4: ["capital of China", "is a city"]}
VISIBLE: Pattern = Documents() | Edges(undirected=True)


def knowledge_batch(
    sentence: list[str], facts: dict[int, list[str]], vocabulary: dict[str, int]
) -> Batch:
    """Return a sentence and its facts as a batch of one sample.

    Args:
        sentence: its words.
        facts: position of a word -> the facts about it.
        vocabulary: word -> id; new words are added.
    """
    words, positions = list(sentence), list(range(len(sentence)))
    documents, edges = [len(sentence)], []
    for anchor, texts in facts.items():
        for fact in (text.split() for text in texts):
            edges += [(anchor, len(words) + i) for i in range(len(fact))]
            positions += range(anchor + 1, anchor + 1 + len(fact))
            words += fact
            documents.append(len(fact))
    return Batch(
        x=torch.tensor([vocabulary.setdefault(word, len(vocabulary)) for word in words]),
        pos=torch.tensor(positions),
        lengths=(len(words),),
        documents=tuple(documents),
        edge_index=torch.tensor(edges).reshape(-1, 2).T,
        words=words,
    )


def main() -> None:
    """Print the mask, and the words whose outputs depend on the last word of a fact."""
    vocabulary: dict[str, int] = {}
    batch = knowledge_batch(SENTENCE, FACTS, vocabulary)
    mask = VISIBLE(batch).to_mask()
    width = max(map(len, batch.words))
    for word, row in zip(batch.words, mask.tolist(), strict=True):
        print(f"{word:>{width}}  " + " ".join("#" if present else "." for present in row))

    torch.manual_seed(0)
    model = models.bert(64, dim=32, depth=1, num_heads=4).eval()
    other = batch.clone()
    other.x[-1] = vocabulary.setdefault("river", len(vocabulary))  # "is a river"
    with torch.no_grad():
        change = (model(batch, VISIBLE) - model(other, VISIBLE)).abs().amax(1)
    changed = [word for word, size in zip(batch.words, change.tolist(), strict=True) if size > 0]
    print(f"\nAfter one block, changing the last fact affects: {', '.join(changed)}")


if __name__ == "__main__":
    main()
