"""Which tasks should pass to which node: even shares, by cost, by needs. Pure."""
