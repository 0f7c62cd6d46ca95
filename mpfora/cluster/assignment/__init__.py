"""Whose it is to claim a task that waits: each node folds the same answer from the watch. Pure."""
