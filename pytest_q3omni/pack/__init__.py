"""Packing: source files, plan and record become shards. Never loads the model."""
