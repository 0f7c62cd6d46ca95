"""`mpfora doctor`: what is wrong with a cluster, why that matters, and the command that mends it. `gather` looks, and
the checks judge what it found: they are pure."""
