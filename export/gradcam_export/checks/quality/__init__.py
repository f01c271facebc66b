"""How good the explanations of a version are, each measure as its own paper defines it."""
