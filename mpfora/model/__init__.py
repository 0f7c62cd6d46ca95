"""The nouns: tasks, states, outcomes, units. Pure: no I/O, no clock, standard library only."""
