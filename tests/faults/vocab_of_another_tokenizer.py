"""vocab.json gives two tokens each other's ids; tokenizer.json has them right."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    def exchanged(vocab: dict[str, int]) -> None:
        first, second = (token for token, number in vocab.items() if number in (300, 301))
        vocab[first], vocab[second] = vocab[second], vocab[first]

    edit_json(directory, "vocab.json", exchanged)


FAULT = Fault("tokenizer", "vocab.json", "companions", break_)
