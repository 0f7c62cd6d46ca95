"""`python -m mpfora.demo`: the same as `mpfora demo`."""

import sys

from mpfora.cli import main

main(["demo", *sys.argv[1:]])
