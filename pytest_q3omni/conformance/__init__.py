"""The suite that ships: `pytest --pyargs pytest_q3omni.conformance -m tiny` in any folder, no clone needed.

Items marked `tiny` run on the built-in tiny model; with --q3omni-original and --q3omni-quantized the same questions are
put to your checkpoints. Every check of `q3omni verify` is an item of its own, so a JUnit report names them all.
"""
