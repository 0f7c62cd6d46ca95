"""How a node agrees with the others: the Coordinator interface, over any transactional store."""
