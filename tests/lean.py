"""What an export is spared where neither merged requests nor files are the point: two thirds of its time."""

LEAN = {"batching": "none", "max_image_bytes": 0}
