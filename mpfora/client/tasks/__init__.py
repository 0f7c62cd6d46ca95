"""What a client does to tasks: submits, commands, waits, removes; and the checks of arguments."""
