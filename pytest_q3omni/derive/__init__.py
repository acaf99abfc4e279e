"""Pure derivation: source tensors, plan and record become target arrays."""
