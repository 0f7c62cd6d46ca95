"""`python -m mpfora.cli`."""

from mpfora.cli import main

main()
