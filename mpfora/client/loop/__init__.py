"""In which process, event loop and thread a client lives."""
