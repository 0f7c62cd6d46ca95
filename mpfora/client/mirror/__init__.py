"""All tasks and nodes of a namespace in memory, kept by one watch, for those who look on."""
