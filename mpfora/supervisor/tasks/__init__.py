"""The tasks that this node claims and holds: from the claim to the end of its last run. Pure."""
