"""The commands that judge versions: what each takes, and what it answers."""
