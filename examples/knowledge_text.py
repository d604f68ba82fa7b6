"""A sentence with facts about what it names, as one graph: K-BERT's visible matrix.

Facts from a knowledge graph are put beside the words that they are about. Were they simply written
into the sentence, every word would see them and the sentence would say something else. So

- the words of the sentence see one another;
- the words of a fact see one another;
- a fact and the word that it is about see one another, and nobody else sees the fact.

The first two are the pattern `Documents` (the sentence and each fact are "documents" of a sample),
the third are edges. Places are soft: a fact goes on counting from the word that it is about, as if
it alone followed there.

    python examples/knowledge_text.py

Source: Liu et al., 2020, "K-BERT: enabling language representation with knowledge graph".
"""

from __future__ import annotations

import torch
from torch_geometric.data import Data

from graphformer import models
from graphformer.patterns import Documents, Edges, Pattern

SENTENCE = ["Tim", "Cook", "is", "visiting", "Beijing", "now"]
FACTS = {1: ["CEO of Apple"], 4: ["capital of China", "is a city"]}
VISIBLE: Pattern = Documents() | Edges(undirected=True)


def knowledge_batch(
    sentence: list[str], facts: dict[int, list[str]], vocabulary: dict[str, int]
) -> Data:
    """A sentence and its facts as a batch of one sample.

    Args:
        sentence: its words.
        facts: the place of a word -> what is known about it.
        vocabulary: word -> id; grows.
    """
    words, places = list(sentence), list(range(len(sentence)))
    documents, edges = [len(sentence)], []
    for anchor, texts in facts.items():
        for fact in (text.split() for text in texts):
            edges += [(anchor, len(words) + i) for i in range(len(fact))]
            places += range(anchor + 1, anchor + 1 + len(fact))
            words += fact
            documents.append(len(fact))
    return Data(
        x=torch.tensor([vocabulary.setdefault(word, len(vocabulary)) for word in words]),
        pos=torch.tensor(places),
        lengths=(len(words),),
        documents=tuple(documents),
        edge_index=torch.tensor(edges).reshape(-1, 2).T,
        words=words,
    )


def main() -> None:
    """Show who sees whom, and that a fact moves its word at once and others only through it."""
    vocabulary: dict[str, int] = {}
    batch = knowledge_batch(SENTENCE, FACTS, vocabulary)
    seen = VISIBLE(batch).to_mask()
    width = max(map(len, batch.words))
    for word, row in zip(batch.words, seen.tolist(), strict=True):
        print(f"{word:>{width}}  " + " ".join("#" if one else "." for one in row))

    torch.manual_seed(0)
    model = models.bert(64, dim=32, depth=1, num_heads=4).eval()
    other = batch.clone()
    other.x[-1] = vocabulary.setdefault("river", len(vocabulary))  # "is a river"
    with torch.no_grad():
        change = (model(batch, VISIBLE(batch)) - model(other, VISIBLE(other))).abs().amax(1)
    moved = [word for word, much in zip(batch.words, change.tolist(), strict=True) if much > 0]
    print(f"\nAfter one block, another last fact is seen by: {', '.join(moved)}")


if __name__ == "__main__":
    main()
