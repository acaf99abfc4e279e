"""How the tiny model is made: worlds, tokenizer, configuration, training, evaluation."""
