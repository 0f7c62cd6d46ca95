"""`python -m mpfora.demo`: the same as `mpfora demo`."""

import sys

from mpfora.demo import main
from mpfora.errors import MpforaError

try:
    code = main(sys.argv[1:])
except MpforaError as error:
    print(f"mpfora: {error}", file=sys.stderr)
    code = 1
sys.exit(code)
