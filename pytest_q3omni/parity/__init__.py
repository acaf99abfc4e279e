"""Does a packed checkpoint answer like its original? The engines to ask come from above."""
