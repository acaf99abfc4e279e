"""Plan, calibrate, pack and verify Qwen3-Omni checkpoints in NVFP4, and prove it in pytest.

Importing this package loads nothing else: pytest imports it at every start of every project that has the plugin.
"""

__version__ = "0.1.0"
