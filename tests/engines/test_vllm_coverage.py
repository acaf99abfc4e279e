"""Counting what a loader writes, on loaders of a few lines: by shapes on the meta device, and by bytes."""

import pytest

torch = pytest.importorskip("torch")

from pytest_q3omni.engines.vllm_inside.coverage import by_bytes, by_headers  # noqa: E402

pytestmark = pytest.mark.tiny


def parameters(device: str) -> dict:
    """Eight experts of (4, 6), a vector, a scalar, and bytes."""
    shapes = {"experts": (8, 4, 6), "norm": (10,), "scale": (), "codes": (4, 3)}
    dtypes = {"codes": torch.uint8, "scale": torch.float32}
    return {
        name: torch.nn.Parameter(
            torch.empty(shape, device=device, dtype=dtypes.get(name, torch.bfloat16)), requires_grad=False
        )
        for name, shape in shapes.items()
    }


@pytest.fixture(params=["headers", "bytes"])
def prove(request):
    """Run a loader over the parameters both ways: `load(parameters, source)`, where source makes a tensor."""
    device, by = ("meta", by_headers) if request.param == "headers" else ("cpu", by_bytes)

    def run(load):
        held = parameters(device)
        source = lambda *shape, dtype=torch.bfloat16: torch.ones(shape, dtype=dtype, device=device)  # noqa: E731
        return by(held, lambda: load(held, source))

    return run


def everything(held, source):
    for value in held.values():
        value.data.copy_(source(*value.shape, dtype=value.dtype))


def test_all_of_it(prove) -> None:
    written = prove(everything)
    assert all(written.count(name) == value.numel() for name, value in written.parameters.items())
    assert all(written.gaps(name) == [] for name in written.parameters)


def test_nothing_of_it(prove) -> None:
    written = prove(lambda held, source: None)
    assert all(written.count(name) == 0 for name in written.parameters)
    assert written.gaps("experts") == [[0, 8]]
    assert written.gaps("scale") == [[0, 1]]


def test_an_expert_that_is_missing(prove) -> None:
    def load(held, source):
        for number in (0, 1, 2, 4, 5, 6, 7):
            held["experts"].data[number].copy_(source(4, 6))

    written = prove(load)
    assert written.count("experts") == 7 * 24
    assert written.gaps("experts") == [[3, 4]]


def test_half_of_an_expert_that_is_missing(prove) -> None:
    def load(held, source):
        for number in range(8):
            first = held["experts"].data[number].narrow(0, 0, 2)
            first.copy_(source(2, 6))
            if number != 5:
                held["experts"].data[number].narrow(0, 2, 2).copy_(source(2, 6))

    written = prove(load)
    assert written.count("experts") == 8 * 24 - 12
    assert written.gaps("experts") == [[5, 6]]


def test_rows_of_a_matrix(prove) -> None:
    def load(held, source):
        held["codes"].data.narrow(0, 0, 3).copy_(source(3, 3, dtype=torch.uint8))

    written = prove(load)
    assert written.count("codes") == 9
    assert written.gaps("codes") == [[3, 4]]


def test_writing_twice_makes_up_for_nothing(prove) -> None:
    """An expert that is there twice does not stand in for one that is missing."""

    def load(held, source):
        for number in (0, 1, 2, 3, 4, 5, 6, 6):
            held["experts"].data[number].copy_(source(4, 6))

    assert prove(load).gaps("experts") == [[7, 8]]


def test_one_element(prove) -> None:
    def load(held, source):
        held["norm"].data[:9].copy_(source(9))

    written = prove(load)
    assert written.count("norm") == 9
    assert written.gaps("norm") == [[9, 10]]


def test_values_that_look_like_the_filling_are_written() -> None:
    held = parameters("cpu")
    written = by_bytes(held, lambda: [held["codes"].data.fill_(byte) for byte in (0x55, 0xAA)])
    assert written.count("codes") == 12
