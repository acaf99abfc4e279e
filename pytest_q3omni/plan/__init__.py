"""From config, headers and recipe to a plan: every target tensor, every shard, every byte. No torch, no weights."""
