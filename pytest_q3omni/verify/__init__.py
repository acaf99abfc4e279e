"""Verification: judge a checkpoint by its files. Trusts nothing it claims."""
