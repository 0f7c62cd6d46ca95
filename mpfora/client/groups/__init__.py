"""Groups: many tasks of one handler, submitted, followed and commanded as one."""
