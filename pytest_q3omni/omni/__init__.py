"""Qwen3-Omni as files on disk: configs, headers, stages, prompts, and the trained tiny model. No torch."""
