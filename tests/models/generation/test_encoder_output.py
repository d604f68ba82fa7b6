"""The output of an encoder: selection by text, checksums, arguments of the decoder."""

from __future__ import annotations

import torch

import graphformer as gf
from graphformer.models.generation import EncoderOutput

LENGTHS = (2, 3, 5)


def output() -> EncoderOutput:
    return EncoderOutput(torch.arange(20.0).view(10, 2), LENGTHS, torch.arange(10))


def test_selected_texts_have_their_nodes_and_checksums():
    selected = output().select(torch.tensor([2, 0, 0]))
    assert selected.lengths == (5, 2, 2)
    nodes = output().nodes
    assert torch.equal(selected.nodes, torch.cat([nodes[5:], nodes[:2], nodes[:2]]))
    sums = output().checksums
    assert selected.checksums == [sums[2], sums[0], sums[0]]


def test_checksums_depend_on_the_input():
    assert len(set(output().checksums)) == 3
    assert EncoderOutput(output().nodes, LENGTHS).checksums == [0, 0, 0]


def test_arguments_of_cross_attention():
    arguments = output().cross_attention((1, 1, 7))
    assert arguments["source"].shape == (10, 2)
    assert arguments["source_adjacency"] == gf.complete((1, 1, 7), LENGTHS)
