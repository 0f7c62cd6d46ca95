"""The zygote: imports the handlers once, then forks, watches, kills and reaps. One thread."""
