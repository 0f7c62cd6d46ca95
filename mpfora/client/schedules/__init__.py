"""Schedules, as a client writes and lists them."""
