"""What changed between two versions: predictions, scores and heatmaps of the same pictures."""
