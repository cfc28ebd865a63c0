"""Grafana's dashboard asks for metrics that the page of metrics lists."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "monitoring/grafana-dashboard.json").read_text())
PAGE = (ROOT / "docs/monitoring.md").read_text()
LABELS = {
    name: (kind, set(re.findall(r"`(\w+)`", labels)))
    for name, kind, labels in re.findall(
        r"^\| `(celeriac_\w+)` \| (\w+) \| (.*?) \|", PAGE, re.M
    )
}
SERIES = re.compile(r"(celeriac_\w+)(?:\{(.*?)\})?")


def expressions() -> list[str]:
    return [
        target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    ]


def metric_of(series: str) -> str:
    name = re.sub(r"_(bucket|sum|count)$", "", series)
    return name if name in LABELS else series


def test_every_panel_asks_for_metrics_that_exist() -> None:
    asked = {found[0] for text in expressions() for found in SERIES.findall(text)}
    assert len(asked) > 15
    for series in asked:
        kind, _ = LABELS[metric_of(series)]
        assert series.endswith("_bucket") == (kind == "histogram"), series


def test_panels_select_and_group_by_labels_that_metrics_have() -> None:
    for text in expressions():
        known: set[str] = {"le"}
        for series, selector in SERIES.findall(text):
            _, labels = LABELS[metric_of(series)]
            known |= labels
            for label in re.findall(r"(\w+)(?:=~|=|!=)", selector):
                assert label in labels, text
        for group in re.findall(r"by \((.*?)\)", text):
            assert {word.strip() for word in group.split(",")} <= known, text


def test_counters_are_looked_at_by_their_rate() -> None:
    for text in expressions():
        for series, _ in SERIES.findall(text):
            if LABELS[metric_of(series)][0] == "counter":
                assert re.search(rf"(rate|increase)\({series}", text), text


def test_panels_have_titles_of_their_own_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
