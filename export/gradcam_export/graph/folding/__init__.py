"""One rewrite of the explained graph a file: what the graph computes stays, what it costs does not."""
