"""The page, the JSON and the model card of a report."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import yaml

from graphformer.trust import Figure, Report, Section, Table, model_card, render_html
from graphformer.trust.plots import Line, bar_plot, line_plot


@pytest.fixture(scope="module")
def report() -> Report:
    plot = line_plot(
        {"one": Line([0, 1], [0.2, 0.7], [0.1, 0.6], [0.3, 0.8]), "two": Line([0, 1], [0.3, 0.1])},
        x_label="a & b",
        y_label="c",
        diagonal=True,
    )
    section = Section(
        "calibration",
        "Calibration",
        ["A note with <script>alert(1)</script>."],
        {"ECE": 0.25, "undefined": math.nan},
        [Table("A table", ["name | other", "value"], [["x<y", 0.123456], ["z|w", math.inf]])],
        [Figure("A plot", plot), Figure("Bars", bar_plot({"a": 1, "b": 2}, y_label="n"))],
    )
    return Report("A & B", {"task": "Classification", "data": "Digits"}, [section])


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("href", "src", "xlink:href") and v]


def test_the_page_needs_nothing_else(report: Report):
    text = render_html(report)
    page = Page()
    page.feed(text)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.links
    assert all(link.startswith("#") for link in page.links)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_the_page_follows_light_and_dark(report: Report):
    text = render_html(report)
    assert "prefers-color-scheme: dark" in text
    assert "currentColor" in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert "#000000" not in re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)


def test_text_is_escaped_and_plots_are_not(report: Report):
    text = render_html(report)
    assert "&lt;script&gt;" in text
    assert "x&lt;y" in text
    assert text.count("<svg") == 2
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)


def test_the_same_report_has_the_same_bytes():
    lines = {"one": Line([0, 1], [0.2, 0.7])}
    assert line_plot(lines, x_label="x", y_label="y") == line_plot(lines, x_label="x", y_label="y")


def test_the_json_has_all_numbers(report: Report):
    text = json.dumps(report.to_json(), allow_nan=False)
    section = json.loads(text)["sections"]["calibration"]
    assert section["metrics"] == {"ECE": 0.25, "undefined": None}
    assert section["tables"][0]["rows"] == [["x<y", 0.123456], ["z|w", None]]


def test_the_card_has_metadata_and_figures(report: Report):
    _, head, body = model_card(report).split("---\n", 2)
    (index,) = yaml.safe_load(head)["model-index"]
    assert index["results"][0]["metrics"] == [{"type": "ece", "name": "ECE", "value": 0.25}]
    assert "| name \\| other | value |" in body
    assert "| z\\|w | inf |" in body


def test_the_hub_reads_the_card(report: Report):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra `hf`")
    data = hub.ModelCard(model_card(report)).data
    assert [(r.metric_name, r.metric_value) for r in data.eval_results] == [("ECE", 0.25)]
