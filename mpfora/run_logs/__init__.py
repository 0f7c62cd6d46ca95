"""The files in which nodes keep what runs print: where they are, and how they are read. Nodes write them."""
