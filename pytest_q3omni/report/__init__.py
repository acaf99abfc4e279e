"""Renderers: one file, one output format."""
