"""What a quantization_config claims, module by module: as vLLM matches names."""

import pytest

from pytest_q3omni.layouts import Declared
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.verify.claim import Claim, aliases, parents

pytestmark = pytest.mark.tiny

MODULES = [
    *(f"thinker.model.layers.{layer}.self_attn.{name}_proj" for layer in (1, 2, 10) for name in "qkvo"),
    *(
        f"thinker.model.layers.{layer}.mlp.experts.0.{name}_proj"
        for layer in (1, 2, 10)
        for name in ("gate", "up", "down")
    ),
    *(f"thinker.model.layers.{layer}.mlp.gate" for layer in (1, 2, 10)),
    "thinker.lm_head",
    "thinker.visual.blocks.0.attn.qkv",
]
LINEARS = {module: TensorInfo(f"{module}.weight", "BF16", (16, 16)) for module in MODULES}


def covered(entry: str) -> set[str]:
    return set(Claim(Declared(ignore=(entry,)), LINEARS).covered(entry))


def test_an_exact_name_covers_itself() -> None:
    assert covered("thinker.lm_head") == {"thinker.lm_head"}


def test_an_entry_is_a_substring() -> None:
    assert covered("lm_head") == {"thinker.lm_head"}
    assert covered("thinker.model.layers.1") == {module for module in MODULES if ".layers.1" in module}
    assert covered("thinker.model.layers.1.") == {module for module in MODULES if ".layers.1." in module}


def test_a_router_entry_leaves_the_experts_alone() -> None:
    assert covered("thinker.model.layers.1.mlp.gate") == {"thinker.model.layers.1.mlp.gate"}


def test_patterns_match_whole_names() -> None:
    assert covered("thinker.visual*") == {"thinker.visual.blocks.0.attn.qkv"}
    assert covered("visual*") == set()
    assert covered("*.layers.?.mlp.gate") == {f"thinker.model.layers.{layer}.mlp.gate" for layer in (1, 2)}
    assert covered("*") == covered("**") == set(MODULES)
    assert covered("[!x]lm_head") == covered("[!x]" + MODULES[0]) == set()


def test_fused_names_count() -> None:
    layer = "thinker.model.layers.2"
    assert covered(f"{layer}.self_attn.qkv_proj") == {f"{layer}.self_attn.{name}_proj" for name in "qkv"}
    assert covered(f"{layer}.mlp.experts") == {module for module in MODULES if f"{layer}.mlp.experts" in module}


@pytest.mark.parametrize("entry", ["", "\n", "nothing", "[", "(", "thinker.lm_head\nthinker", "re:.*"])
def test_entries_that_cover_nothing(entry: str) -> None:
    assert covered(entry) == set()


def test_listed_parents_stand_for_their_children() -> None:
    claim = Claim(Declared(modules={"thinker.model.layers.1.mlp.experts": "w4a4"}), LINEARS)
    assert claim.by_layer
    assert claim.scheme("thinker.model.layers.1.mlp.experts.0.up_proj") == "w4a4"
    assert claim.scheme("thinker.model.layers.10.mlp.experts.0.up_proj") is None


def test_everything_but_the_ignored() -> None:
    claim = Claim(Declared(everything="w4a16", ignore=("lm_head", "thinker.visual*")), LINEARS)
    assert claim.scheme("thinker.model.layers.1.mlp.gate") == "w4a16"
    assert claim.scheme("thinker.lm_head") is None
    assert claim.scheme("thinker.visual.blocks.0.attn.qkv") is None
    assert claim.scheme("thinker.model.embed_tokens") is None, "an embedding is no Linear"


def test_a_claim_with_a_fault_is_not_used() -> None:
    fault = ("quant_algo", "X", "Y", "Z")
    assert not Claim(Declared(faults=(fault,)), LINEARS).usable
    assert Claim(Declared(faults=(("quantized_layers.a.quant_algo", "X", "Y", "Z"),)), LINEARS).usable
    assert not Claim(Declared(ignore=("a",) * 30_001), LINEARS).usable


def test_patterns_are_bounded_and_prefixes_are_none() -> None:
    patterns = tuple(f"*.{number}" for number in range(1_001))
    assert not Claim(Declared(ignore=patterns), LINEARS).usable
    assert Claim(Declared(ignore=(*patterns[1:], *patterns[1:])), LINEARS).usable
    assert Claim(Declared(ignore=("*a***", "*a*", "*a*")), LINEARS).entries == ("*a*",)
    assert Claim(Declared(ignore=tuple(f"{number}*" for number in range(1_001))), LINEARS).usable


def test_names_around_a_module() -> None:
    expert = "thinker.model.layers.1.mlp.experts.0.up_proj"
    assert aliases(expert) == (
        expert,
        "thinker.model.layers.1.mlp.experts.0.gate_up_proj",
        "thinker.model.layers.1.mlp.experts",
    )
    assert list(parents("a.b.c")) == ["a.b.c", "a.b", "a"]


def names(*ignore: str, targets: tuple[tuple[str, str], ...] = (), everything: str | None = "w4a4") -> Claim:
    return Claim(Declared(targets=targets, everything=everything, ignore=ignore, language="names"), LINEARS)  # type: ignore[arg-type]


def test_names_are_whole_or_expressions() -> None:
    layer = "thinker.model.layers.1.self_attn"
    claim = names("lm_head", f"{layer}.q_proj", r"re:.*\.mlp\.gate$", "re:thinker.visual")
    assert claim.scheme("thinker.lm_head") == "w4a4", "a whole name, no substring"
    assert claim.scheme(f"{layer}.q_proj") is None
    assert claim.scheme(f"{layer}.k_proj") == "w4a4"
    assert claim.scheme("thinker.model.layers.2.mlp.gate") is None
    assert claim.scheme("thinker.visual.blocks.0.attn.qkv") is None, "an expression matches from the start"
    assert names("re:visual").scheme("thinker.visual.blocks.0.attn.qkv") == "w4a4"


def test_a_layers_experts_have_one_name() -> None:
    claim = names("thinker.model.layers.1.mlp.experts")
    assert claim.scheme("thinker.model.layers.1.mlp.experts.0.up_proj") is None
    assert claim.scheme("thinker.model.layers.10.mlp.experts.0.up_proj") == "w4a4"


def test_targets_come_in_order_and_what_is_ignored_comes_first() -> None:
    targets = (("re:.*self_attn.*", "fp8"), ("re:.*q_proj", "w4a16"))
    claim = names("thinker.model.layers.2.self_attn.q_proj", targets=targets, everything=None)
    assert claim.scheme("thinker.model.layers.1.self_attn.q_proj") == "fp8"
    assert claim.scheme("thinker.model.layers.2.self_attn.q_proj") is None
    assert claim.scheme("thinker.lm_head") is None


@pytest.mark.parametrize("entry", ["re:(", "re:(?:a{1000}){1000}", "re:" + "a" * 3000, "re:" + "(" * 2000])
def test_an_expression_of_a_stranger_is_refused(entry: str) -> None:
    claim = names(entry)
    assert not claim.usable
    assert claim.scheme("thinker.lm_head") == "w4a4"


def test_an_expression_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_q3omni.verify.claim.SECONDS", 0.05)
    hostile = r"re:(.*?,?){30}(\w+\s?)*(x+x+)+y"
    slow = {f"{'x' * 200}{number}": LINEARS["thinker.lm_head"] for number in range(5)}
    assert not Claim(Declared(everything="w4a4", ignore=(hostile,), language="names"), slow).usable
