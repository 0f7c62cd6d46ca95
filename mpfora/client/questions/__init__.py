"""Questions to a node, and commands to it that its record answers."""
