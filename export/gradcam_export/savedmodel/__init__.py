"""What lies in a published version, and how it gets there."""
