"""The judge: what a checkpoint is, read from its files. Nothing it claims about itself counts as evidence."""
