"""What tasks print, read on their nodes or from this machine's files."""
