"""Silences gRPC's own lines on standard error: its errors say what goes wrong, and mpfora tells that once, in words.

gRPC reads the variable when it is imported. It is taken away again, so that what a handler starts finds the environment
of its node. Whoever sets GRPC_VERBOSITY gets what it asks for.
"""

import os

_VARIABLE = "GRPC_VERBOSITY"

if _VARIABLE not in os.environ:
    os.environ[_VARIABLE] = "NONE"
    try:
        import grpc as grpc
    finally:
        del os.environ[_VARIABLE]
