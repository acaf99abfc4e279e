"""One file, one foreign library."""
