"""The whole road on real input: handwritten digits hidden in clutter, a small classifier, a server, overlays."""
