"""A transactional key-value store, and what stands in it: the interface, the key layout, and the stores."""
