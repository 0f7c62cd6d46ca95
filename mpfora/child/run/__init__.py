"""One run in its own process: from the fork to the exit."""
