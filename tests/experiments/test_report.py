"""The page: whole in itself, readable by machines that read it to people."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest


class Page(HTMLParser):
    """The tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def reproduced(calls_in, tmp_path_factory):
    """A folder of all experiments, one of which has failed."""
    folder = tmp_path_factory.mktemp("reproduced")
    with calls_in(folder) as status_of:
        status_of("reproduce", "--out", "all", "--only", "*")
    return folder / "all"


@pytest.fixture(scope="module")
def source(reproduced):
    return (reproduced / "report.html").read_text()


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def test_the_page_is_well_formed_and_refers_to_nothing_outside(page, source):
    assert page.open == []
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert re.match(r"data:image/png;base64,|#", attributes.get(name, "#"))
    assert not re.search(r"@import|url\(|https?:", source)


def test_links_lead_to_sections_that_exist(page):
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= targets


def test_tables_and_pictures_can_be_read_aloud(page):
    assert all(header["scope"] in ("col", "row") for header in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(image["alt"] for image in page.all("img"))
    assert page.all("html")[0]["lang"] == "en"


def test_the_page_says_what_the_ledger_says(page, reproduced):
    for claim in json.loads((reproduced / "bowls-descent/claims.json").read_text()):
        for part in (claim["statement"], claim["source"], claim["verdict"], claim["id"]):
            assert part in page.text
    assert "The loss <reaches> zero & stays." in page.text
    assert "not as expected: holds" in page.text
    assert "[0.3976, 1]" in page.text
    assert "2 claims: 1 hold, 1 fail" in page.text


def test_the_page_tells_how_to_repeat_a_run_and_what_has_failed(page):
    assert "python -m experiments run bowls-descent --preset quick" in page.text
    assert "--optimizer.learning-rate 0.05" in page.text
    assert "float64" in page.text
    assert "bowls-broken : sklearn is missing: pip install 'phenodl[data]'" in page.text


def test_report_takes_one_run_or_a_folder_of_runs(call, reproduced):
    shutil.copytree(reproduced / "bowls-descent", "all/bowls-descent")
    status, output, error = call("report", "all")
    assert status == 0
    assert "2 claims" in output
    assert error == "page: all/report.html\n"
    assert call("report", "all/bowls-descent", "--json")[0] == 0
    assert Path("all/bowls-descent/report.html").exists()


def test_a_folder_may_hold_several_runs_of_one_experiment_and_unfinished_ones(call, reproduced):
    call("run", "bowls-descent", "--out", "all/narrow", "--seeds", "2")
    for name in ("wide", "begun"):
        shutil.copytree(reproduced / "bowls-descent", f"all/{name}")
    Path("all/begun/claims.json").unlink()
    assert call("report", "all")[0] == 0
    page = Page(Path("all/report.html").read_text())
    for title in ("bowls-descent (wide)", "bowls-descent (narrow)"):
        assert title in page.text
    anchors = [attributes["id"] for tag, attributes in page.tags if tag == "h2"]
    assert anchors == ["unfinished", "narrow", "wide"]
    assert (
        "begun : all/begun has no claims yet: python -m experiments analyze all/begun" in page.text
    )


@pytest.mark.parametrize("file", ["config.json", "claims.json"])
def test_a_broken_run_does_not_hide_the_others(call, reproduced, file):
    for name in ("whole", "broken"):
        shutil.copytree(reproduced / "bowls-descent", f"all/{name}")
    Path("all/broken", file).write_text("[{}]")
    status, output, _ = call("report", "all")
    assert status == 0
    assert "2 claims" in output
    assert f"broken : all/broken/{file}" in Page(Path("all/report.html").read_text()).text
