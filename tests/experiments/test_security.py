"""A run directory, or a data file, from somebody who means harm."""

import dataclasses
import html.parser
import json
import pickle
import shutil
from pathlib import Path

import pytest
import xarray as xr
from toys.checks import files, refused

from experiments import report
from experiments.run_directory import RunDirectory
from phenodl import results
from phenodl.data import text

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>{{ 7 * 7 }} \x1b]0;owned\x07"
RUN = Path("run")


class Tags(html.parser.HTMLParser):
    """All tags and their attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def edit(path, change):
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))


def test_the_page_escapes_names_attributes_claims_and_tables(finished, toys):
    """The experiment itself is called so, and everything that is stored says so."""
    edit(finished / "claims.json", lambda claims: claims[0].update(statement=HOSTILE, id=HOSTILE))

    def spoil(stored):
        for field in ("command", "platform", "python", "git_commit"):
            stored["provenance"][field] = HOSTILE
        stored["provenance"]["versions"][HOSTILE] = HOSTILE
        stored["provenance"]["devices"] = [HOSTILE]
        stored["config"][HOSTILE] = [HOSTILE]

    edit(finished / "config.json", spoil)
    (finished / "tables" / "last-losses.csv").write_text(f'{HOSTILE}\n"{HOSTILE}"\n')
    folder = finished.rename(finished.with_name("<b onclick=x>"))
    hostile = dataclasses.replace(
        toys["bowls-descent"], name=HOSTILE, summary=HOSTILE, figure=HOSTILE
    )
    run = RunDirectory(folder, hostile, "quick", None)
    page = report.render([run], {HOSTILE: HOSTILE})
    assert page.count("&lt;script&gt;alert(1)") >= 12
    tags = Tags(page).found
    assert not [tag for tag, _ in tags if tag in ("script", "iframe", "object", "link", "base")]
    assert not [name for _, attrs in tags for name in attrs if name.startswith("on")]
    sources = [attrs["src"] for _, attrs in tags if "src" in attrs]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    links = [attrs["href"] for _, attrs in tags if "href" in attrs]
    assert all(link.startswith("#") for link in links)
    assert "49" not in page.partition("&lt;/script&gt;")[2][:60], "no template in a template"


def test_a_terminal_is_not_steered(call, finished):
    edit(finished / "claims.json", lambda claims: claims[0].update(statement=HOSTILE))
    edit(finished / "config.json", lambda stored: stored.update(experiment=HOSTILE))
    shutil.copytree(finished, "other")
    edit(Path("other/config.json"), lambda stored: stored.update(experiment="bowls-descent"))
    _, output, error = call("report", "other")
    assert "script" in output
    assert "\x1b]" not in output + error
    assert "\x1b" not in call("report", "run")[2]


@pytest.mark.parametrize("name", ["../../outside", "/outside", "first-*", "*", "..", ""])
def test_names_of_trainings_lead_nowhere_else(call, finished, tmp_path, name):
    (tmp_path / "outside-000000000.nc").write_bytes(b"not ours")
    edit(finished / "config.json", lambda stored: stored["trained"].update(trainings=[name]))
    before = files(tmp_path)
    for command in ("analyze", "report"):
        assert refused(call(command, "run"), "remove it and run" if name else "")
    assert files(tmp_path) == before


def test_what_lies_outside_is_neither_shown_nor_removed(call, finished, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("the secret\n")
    (finished / "tables" / "linked.csv").symlink_to(secret)
    (finished / "figures" / "linked.png").symlink_to(secret)
    places = ["tables/linked.csv", "figures/linked.png", "../secret.csv", str(secret)]
    edit(finished / "config.json", lambda stored: stored["analyzed"].extend(places))
    assert call("report", "run")[0] == 0
    page = (finished / "report.html").read_text()
    assert "the secret" not in page
    assert "linked" not in page
    assert call("analyze", "run")[0] == 0
    assert secret.exists()


@pytest.fixture
def mine(tmp_path):
    """A folder of the user's that has nothing to do with the run."""
    folder = tmp_path / "mine"
    (folder / "letters").mkdir(parents=True)
    (folder / "letters" / "loss-curves.png").write_bytes(b"mine")
    return folder


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(
    "place", ["checkpoints", "checkpoints/first", "checkpoints/first/40", "figures"]
)
def test_nothing_is_written_or_removed_through_a_linked_folder(
    call, finished, mine, place, trained
):
    """What lies beyond the state that training goes on from is removed, so where matters."""
    for folder in ("", "first", "first/40"):
        (mine / "letters" / folder).mkdir(exist_ok=True)
    shutil.rmtree(finished / place)
    (finished / place).symlink_to(mine / "letters")
    (finished / "claims.json").unlink()
    if not trained:
        edit(finished / "config.json", lambda stored: stored.update(trained=None))
        for path in results.part_paths(finished):
            path.unlink()
    before = files(mine)
    for words in (["resume", "run"], ["resume", "run", "--retrain"], ["analyze", "run"]):
        assert refused(call(*words), f"run/{place} is a link")
    assert files(mine) == before


def test_nothing_is_written_through_a_linked_temporary_name(call, finished, mine):
    letter = mine / "letters" / "loss-curves.png"
    names = [".config.json.tmp", ".report.html.tmp", ".claims.json.tmp", "report.html"]
    names += ["figures/.loss-curves.png.tmp", ".part-second-000000030.nc.tmp"]
    for name in names:
        (finished / name).symlink_to(letter)
    (finished / "part-second-000000030.nc").unlink()
    assert call("resume", "run", "--retrain")[0] == 0
    assert call("report", "run")[0] == 0
    assert letter.read_bytes() == b"mine"


def test_text_that_utf_8_cannot_say_is_kept(call, finished):
    """Such as the name of a file in another encoding, which Python hands over like this."""
    command = "run spikes-language --file caf\udce9.txt"
    edit(finished / "config.json", lambda stored: stored["provenance"].update(command=command))
    assert call("report", "run")[0] == 0
    assert "caf\\udce9.txt" in (finished / "report.html").read_text(encoding="utf-8")
    assert call("analyze", "run")[0] == 0
    stored = json.loads((finished / "config.json").read_text(encoding="utf-8"))
    assert stored["provenance"]["command"] == command


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b'"' + b"x" * 200_000 + b'"'])
def test_a_table_that_is_none_does_no_harm(call, finished, content):
    (finished / "tables" / "last-losses.csv").write_bytes(content)
    status, _, error = call("report", "run")
    assert status in (0, 2)
    assert "Traceback" not in error


def test_nothing_is_unpickled_on_the_way_to_a_page(call, finished, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for words in (["report", "run"], ["analyze", "run"], ["compare", "run", "run"]):
        assert call(*words)[0] == 0


def test_a_part_of_python_objects_is_refused(tmp_path):
    part = xr.Dataset({"x": ("run", [1.0])}, attrs={"phenodl_axes": "{}"})
    path = tmp_path / "part-main-000000000.nc"
    results.write_part(path, part)
    path.write_bytes(pickle.dumps(part))
    with pytest.raises(results.ResultError, match="damaged, truncated, or no results"):
        results.read_part(path)


def test_a_hostile_text_is_text(tmp_path):
    """To the language model it is bytes; its name and content reach no page unescaped."""
    path = tmp_path / "<script>alert(1)<!--.txt"
    path.write_bytes(HOSTILE.encode() * 400 + b"\x00\xff$\\frac{")
    loaded = text.read_text(path)
    assert bytes(loaded.vocabulary[loaded.tokens]) == path.read_bytes()
