"""What the site has beyond the pages of docs/. mkdocs calls these functions while it builds.

- Pages that stand elsewhere in the repository (OUTSIDE) are in the site under a name of their own.
- A link to a source file leads to a page that shows the file. So every link of the repository holds in the site, too.
- A marker `<!-- made: NAME -->` is replaced by what `reference.py` makes of the code.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

import reference

ROOT = Path(__file__).resolve().parents[2]
#: a page's path in the repository -> its name in the site
OUTSIDE = {
    "deploy/README.md": "deploying.md",
    "examples/README.md": "examples.md",
    "bench/README.md": "figures.md",
    "bench/faults.md": "faults.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s#]+)")
_MARKER = re.compile(r"<!-- made: (\w+) -->")
_LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".yaml": "yaml", ".sh": "bash", ".json": "json"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand elsewhere, and those of the sources that pages lead to."""
    for path, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text()))
    for path in sorted(_sources(files)):
        files.append(File.generated(config, f"source/{path}.md", content=_source_page(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Put in what is made of the code, and turn links out of docs/ to where the site has it."""
    made = _MARKER.sub(lambda found: reference.MADE[found[1]](), markdown)
    here = page.file.src_uri
    if here.startswith("source/"):
        return made
    return _LINK.sub(lambda found: found[1] + _in_site(_path_of(here), found[2], posixpath.dirname(here)), made)


def _path_of(name: str) -> str:
    """Where a page of the site stands in the repository."""
    return next((path for path, outside in OUTSIDE.items() if outside == name), f"docs/{name}")


def _target(page: str, link: str) -> str:
    """The path in the repository that a link of the page at that path leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _in_site(page: str, link: str, folder: str) -> str:
    target = _target(page, link)
    if target in OUTSIDE:
        name = OUTSIDE[target]
    elif target.startswith("docs/"):
        name = target.removeprefix("docs/")
    else:
        name = f"source/{target}.md"
    return posixpath.relpath(name, folder or ".")


def _sources(files: Files) -> set[str]:
    """The paths outside of docs/ that pages lead to, and what lies in the folders among them."""
    found: set[str] = set()
    for file in files.documentation_pages():
        page = _path_of(file.src_uri)
        for _, link in _LINK.findall(file.content_string):
            target = _target(page, link)
            if target not in OUTSIDE and not target.startswith("docs/") and (ROOT / target).exists():
                found.update([target, *_below(target)])
    return found


def _below(target: str) -> list[str]:
    folder = ROOT / target
    return [f"{target}/{entry.name}" for entry in _entries(folder)] if folder.is_dir() else []


def _entries(folder: Path) -> list[Path]:
    """The files of a folder that are shown."""
    return sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))


def _source_page(target: str) -> str:
    path = ROOT / target
    if path.is_dir():
        names = [entry.name for entry in _entries(path)]
        return f"# {target}\n\n" + "".join(f"- [{name}]({path.name}/{name}.md)\n" for name in names)
    if path.suffix == ".md":
        return path.read_text()
    fence = "````"
    return f"# {target}\n\n{fence}{_LANGUAGES.get(path.suffix, 'text')}\n{path.read_text().rstrip()}\n{fence}\n"
