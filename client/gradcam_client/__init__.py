"""Thin client."""
