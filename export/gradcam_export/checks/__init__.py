"""Checks on a written version: they take a path and files of values, never live objects."""
