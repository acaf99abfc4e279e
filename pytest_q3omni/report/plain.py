"""Text of strangers, for people: names come from files, and a control character must not be obeyed."""

from __future__ import annotations


def plain(text: str) -> str:
    """The text with control and direction characters written out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
