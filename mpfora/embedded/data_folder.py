"""Where an embedded etcd keeps its data, where nobody says it and where somebody does."""

from __future__ import annotations

import os
from pathlib import Path

from mpfora.errors import EmbeddedError


def default_data_dir() -> Path:
    """$XDG_STATE_HOME/mpfora/etcd, or ~/.local/state/mpfora/etcd. Raises EmbeddedError where neither is told."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if not state.startswith("/"):  # who writes that standard has a relative one ignored
        state = "~/.local/state"
    return _expanded(state) / "mpfora" / "etcd"


def _expanded(text: str | os.PathLike[str]) -> Path:
    """With the home of its user in the place of "~". Raises EmbeddedError."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # no HOME, and nobody of this user id, or of that name
        path = None
    if path is None or (os.fspath(text).startswith("~") and not path.is_absolute()):
        raise EmbeddedError(
            f"the embedded etcd has no place for its data: {os.fspath(text)!r} has no home folder (HOME is"
            f" {os.environ.get('HOME')!r}); give it a folder by --data-dir, or name another etcd by --etcd"
        )
    return path


def data_folder(given: str | os.PathLike[str] | None) -> Path:
    """The folder that is given, or MPFORA_DATA_DIR, or the user's. Raises EmbeddedError."""
    path = _expanded(given or os.environ.get("MPFORA_DATA_DIR") or default_data_dir())
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # links that go in a circle
        raise EmbeddedError(f"--data-dir {path}: {error}") from None
