"""Verbs composed of several rooms."""
