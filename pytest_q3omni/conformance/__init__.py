"""The suite that ships: `pytest --pyargs pytest_q3omni.conformance`."""
