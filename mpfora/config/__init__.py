"""What people set: options, environment, files, and what a task's props may ask for."""
