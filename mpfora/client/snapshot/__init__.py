"""A namespace at one revision, and what follows from it: rows of lists, why tasks wait, what a balance would move."""
