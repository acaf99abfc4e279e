"""The pytest plugin: doors only."""
