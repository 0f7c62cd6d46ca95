"""The site: it is built without a warning, loads nothing from elsewhere, and its reference is that of the code."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from places import ROOT

from mpfora.cli.group import MODULES, cli
from mpfora.model.outcome import Cause

sys.path.insert(0, str(ROOT / "docs" / "site"))

import drawings
import reference

SIZE = 200_000
needs_mkdocs = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("material", "mkdocstrings_handlers")),
    reason="the site is not built: pip install 'mpfora[docs]'",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


@needs_mkdocs
@pytest.mark.timeout(310)
def test_it_is_built_without_a_warning_and_every_page_is_there(built: Path) -> None:
    pages = {page.relative_to(built).as_posix() for page in built.rglob("*.html")}
    wanted = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert wanted - pages == {"decisions/README.html"}
    assert {"decisions/index.html", "deploying.html", "figures.html", "changelog.html"} <= pages


@needs_mkdocs
@pytest.mark.timeout(310)
def test_it_loads_nothing_from_another_host(built: Path) -> None:
    """A link that a person may follow is no request. Everything else would be one."""
    loads = re.compile(r"""<(?:script|img|source|iframe|link)\b[^>]*?(?:src|href)=["'](?:https?:)?//[^"']+""")
    asked = {found for page in built.rglob("*.html") for found in loads.findall(page.read_text())}
    assert asked == set()
    styles = [sheet.read_text() for sheet in built.rglob("*.css")]
    assert [found for sheet in styles for found in re.findall(r"url\([\"']?(?:https?:)?//[^)]+", sheet)] == []


@needs_mkdocs
@pytest.mark.timeout(310)
def test_each_marker_was_replaced_and_each_object_of_the_api_was_found(built: Path) -> None:
    texts = {page.name: page.read_text() for page in (built / "reference").glob("*.html")}
    assert [name for name, text in texts.items() if "made:" in text or "<p>:::" in text] == []
    assert 'id="mpfora.Client.submit"' in texts["api.html"] or "submit" in texts["api.html"]
    assert all(f'id="mpfora-{name}"' in texts["cli.html"] for names in MODULES.values() for name in names)


def test_each_command_and_each_of_its_options_is_in_the_reference() -> None:
    text = reference.commands()
    for names in MODULES.values():
        for name in names:
            command = cli.get_command(click.Context(cli), name)
            assert command is not None
            assert f"### mpfora {name}\n" in text
            told = text.partition(f"### mpfora {name}\n")[2].partition("\n### ")[0]
            options = [
                param.opts[0] for param in command.params if isinstance(param, click.Option) and not param.hidden
            ]
            assert [option for option in options if option not in told] == []


def test_each_cause_and_each_metric_is_in_the_reference() -> None:
    assert all(f"| `{cause}` | " in reference.causes() for cause in Cause)
    source = "".join((ROOT / path).read_text() for path in reference.METRICS.values())
    names = re.findall(r"\b(?:gauge|one|counter|histogram)\(\s*\"(\w+)\"", source)
    assert len(names) > 30
    assert [name for name in names if f"`mpfora_{name}" not in reference.metrics()] == []


def test_markers_of_the_pages_are_known() -> None:
    marked = {name for page in ROOT.glob("docs/**/*.md") for name in re.findall(r"<!-- made: (\w+)", page.read_text())}
    assert marked == set(reference.MADE)


def test_drawings_are_those_that_their_script_makes() -> None:
    assert [name for name, draw in drawings.DRAWINGS.items() if (drawings.PICTURES / name).read_text() != draw()] == []


def test_pictures_are_small_and_shown() -> None:
    pages = "".join(page.read_text() for page in [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"])
    pictures = [path for path in drawings.PICTURES.iterdir() if path.suffix in {".png", ".svg", ".webp"}]
    assert len(pictures) >= 6
    assert [path.name for path in pictures if path.stat().st_size > SIZE or f"pictures/{path.name}" not in pages] == []
