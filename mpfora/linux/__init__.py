"""What Linux offers and Python has no name for: system calls, /proc."""
