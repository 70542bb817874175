"""The page: whole, self-contained, escaped, the same each time; its script in a real browser."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

from harness.analysis.study import analyse
from harness.domain import Stage, Verdict
from harness.report.details import Details
from harness.report.page import render
from harness.report.source import Run
from harness.report.wording import probability, share

MakeRun = Callable[..., Run]
VOID = {"meta", "input", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """Collects what the tests ask of a page, and fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.ids += [str(values["id"])] if "id" in values else []
        self.links += [str(values[name]) for name in ("href", "src", "action", "data") if name in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_every_section_is_there_and_every_link_leads_to_one(synthetic_run: MakeRun) -> None:
    page = Page(render(synthetic_run()))
    assert page.headings == [
        "Figures beside the published ones", "Result sets", "Transitions", "Overlaps", "Transfer", "Stages and times",
        "Inputs", "Statistics", "How to reproduce", "Provenance",
    ]  # fmt: skip
    assert len(page.ids) == len(set(page.ids))
    assert page.links
    inside = [link for link in page.links if not link.startswith("data:image/svg+xml;base64,")]
    assert all(link.startswith("#") and link[1:] in page.ids for link in inside)


def test_nothing_comes_from_elsewhere(synthetic_run: MakeRun) -> None:
    text = render(synthetic_run())
    assert not Page(text).tags & {"link", "iframe", "object", "embed", "base"}
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {"http://www.w3.org/2000/svg"}
    assert all(link.startswith(("#", "data:")) for link in Page(text).links)
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_the_same_run_gives_the_same_bytes(synthetic_run: MakeRun) -> None:
    assert render(synthetic_run()) == render(synthetic_run())


def test_text_from_a_run_is_escaped(synthetic_run: MakeRun) -> None:
    run = synthetic_run()
    hostile = "</script><script>alert(1)</script>"
    rows = (replace(run.rows[0], verdict=Verdict.ERROR, stage=None, message=hostile), *run.rows[1:])
    summary = dict(run.summary)
    summary |= {"title": hostile, "command": hostile, "device": hostile, "tool": hostile, "protocol": hostile}
    summary |= {"titles": dict.fromkeys(run.summary["variants"], hostile), "provenance": {hostile: {hostile: hostile}}}
    summary |= {"conflicts": [{"property": hostile}], "complete": False}
    text = render(Run(summary, rows))
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    Page(text)


def test_a_folder_whose_name_is_no_text_does_not_cost_the_page(synthetic_run: MakeRun) -> None:
    run = synthetic_run()
    text = render(replace(run, summary=dict(run.summary) | {"command": os.fsdecode(b"lgbench run --out r\xe9sultats")}))
    assert r"r\udce9sultats" in text
    text.encode()


def test_the_figures_of_the_summary_are_on_the_page(published_run: Run) -> None:
    text = render(published_run)
    cells = re.findall(r'<td class="n"[^>]*--share[^>]*>(\d+)<br>', text)
    assert list(map(int, cells)) == [156, 30, 5, 1, 75, 81, 20, 18, 2, 16, 333, 7, 13, 55, 138, 47]
    assert "2 inputs with a result under baseline only (997, 998)" in " ".join(text.split())
    assert "baseline: 1 of 1000 inputs has no result yet" in " ".join(text.split())
    assert "grafted is verified on 496 of the 997 inputs that it and the baseline have results of" in text
    assert "With it 138 of the baseline&#39;s 253 failures are verified and 333 of its 358 verified inputs" in text


def test_an_unfinished_and_an_empty_run_say_so(synthetic_run: MakeRun) -> None:
    finished = render(synthetic_run())
    assert "This run is not finished" not in finished
    half = render(synthetic_run(keep=lambda row: row.index < 30))
    assert "This run is not finished" in half
    assert "30 of 60 inputs have no result yet" in half
    empty = render(synthetic_run(keep=lambda _: False))
    assert "0 of 180 instances were decided" in empty
    Page(empty)


def test_one_network_alone_says_that_there_is_nothing_to_compare(synthetic_run: MakeRun) -> None:
    text = render(synthetic_run(variants=("baseline",)))
    assert "this run has none to compare" in text
    assert "figure-transition" not in text
    assert "figure-overlap" not in text


def test_tables_are_those_of_the_analysis(synthetic_run: MakeRun) -> None:
    """Intervals, hypotheses and paired tests come from one place; a page with figures of its own would differ."""
    run = synthetic_run(60)
    study = analyse(run.rows, run.summary)
    text = " ".join(render(run).split())
    for network in study.networks:
        for interval in network.intervals:
            assert f'</span> {interval.low:.1f} to {interval.high:.1f}</td> <td class="n">{interval.n}</td>' in text
    for pair in study.pairs:
        for one in pair.differences:
            cells = [f"{one.gained}", f"{one.lost}", f"{one.n}", f"{one.difference:+.1f}"]
            row = f"<td>{one.metric}</td>" + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            assert row.replace("</td><td", "</td> <td") in text.replace("</td><td", "</td> <td")
        assert f'<td class="n">{probability(pair.differences[2].p_adjusted)}</td><td class="words">' in text
        for subset in pair.subsets:
            assert share(subset.inside, subset.size) in text
    assert "adjusted by Holm for the 2 comparisons" in text


def test_a_changed_analysis_changes_the_page(synthetic_run: MakeRun) -> None:
    run = synthetic_run(30)
    study = analyse(run.rows, run.summary)
    bounds = replace(study.networks[0].robust, verified=1, undecided=1, missing=0, n=7)
    other = replace(study, networks=(replace(study.networks[0], robust=bounds), *study.networks[1:]))
    assert "between 14.3 % (VS) and 28.6 % (VS and VF) of 7" in render(run, study=other)


def test_the_origin_of_networks_is_in_the_provenance(synthetic_run: MakeRun) -> None:
    manifest = {"onnx": {"sha256": "abc"}, "training": {"config": {"seed": 1}}, "activations": [1]}
    run = replace(synthetic_run(10), details=Details(manifests={"baseline": manifest}))
    text = render(run)
    assert "<summary>Network: Synthetic baseline</summary>" in text
    assert "<dt>training / config / seed</dt><dd>1</dd>" in text
    assert "activations" not in text
    assert "<dt>versions / torch</dt><dd>0.0</dd>" in text


def test_conflicts_stand_on_top(synthetic_run: MakeRun) -> None:
    run = synthetic_run()
    text = render(Run({**run.summary, "conflicts": [{"property_sha256": "abc"}]}, run.rows))
    assert "1 soundness conflict:" in text
    assert text.index("soundness conflict") < text.index("<h2>")


def test_a_tool_that_names_no_stage_gets_a_column_for_it(synthetic_run: MakeRun) -> None:
    assert "stage not stated" not in render(synthetic_run())
    run = synthetic_run()
    summary = json.loads(json.dumps(run.summary))
    rows = tuple(replace(row, stage=None) if row.stage is Stage.BAB else row for row in run.rows)
    for name, block in summary["variants"].items():
        block["stages"]["bab"] = 0
        block["stages"]["unstated"] = sum(row.decided and row.stage is None for row in rows if row.variant == name)
    assert "stage not stated" in render(Run(summary, rows))


def test_a_thousand_inputs_of_four_networks_stay_small(synthetic_run: MakeRun) -> None:
    text = render(synthetic_run(1000, ("baseline", "a", "b", "c")))
    assert len(text.encode()) < 1_500_000
    assert text.count('<tr><th scope="row" class="n" data-rank=') == 1000
