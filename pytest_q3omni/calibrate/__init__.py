"""Calibration: run the fake-quantized model over conversations and leave a record. Never exports."""
