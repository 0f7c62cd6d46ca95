"""Reading a namespace from outside: one listing, one task, what runs tell."""
