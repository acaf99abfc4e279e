"""The pytest plugin: options, markers, fixtures and the hooks behind them.

pytest imports this module at every start of every project that has the package installed, so nothing heavy is imported
here; the tests read `sys.modules` to keep it that way.
"""

from pytest_q3omni.plugin.fixtures import (
    conversation,
    omni_processor,
    original_checkpoint,
    original_model,
    quantized_checkpoint,
    quantized_model,
)
from pytest_q3omni.plugin.hooks import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_runtest_protocol,
    pytest_runtest_setup,
    pytest_sessionstart,
    pytest_terminal_summary,
    pytest_testnodedown,
    pytest_unconfigure,
)

__all__ = [
    "conversation",
    "omni_processor",
    "original_checkpoint",
    "original_model",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_runtest_protocol",
    "pytest_runtest_setup",
    "pytest_sessionstart",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "pytest_unconfigure",
    "quantized_checkpoint",
    "quantized_model",
]
