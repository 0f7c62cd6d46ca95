"""The calls of an AsyncClient, a module for each kind, and the connection that they share."""
