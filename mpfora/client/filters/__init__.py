"""Which tasks are meant: the filter grammar, what matches, the order of lists, and their pages. Pure."""
