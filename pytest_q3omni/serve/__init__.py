"""Serving: what a device could do, what an engine does, and whether its answers are those of the original."""
