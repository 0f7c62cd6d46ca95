"""`python -m mpfora.monitoring` prints the folder with the files."""

from __future__ import annotations

import sys

from mpfora.monitoring import folder

sys.stdout.write(f"{folder()}\n")
