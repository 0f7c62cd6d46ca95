"""What tasks print: drained by a thread, kept in files within bounds, and read from there."""
