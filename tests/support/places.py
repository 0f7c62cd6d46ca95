"""Where tests and their helpers lie."""

from __future__ import annotations

from pathlib import Path

#: the folder of the helpers: tests and nodes import its modules by their bare names
SUPPORT = Path(__file__).resolve().parent
#: the repository
ROOT = SUPPORT.parent.parent
