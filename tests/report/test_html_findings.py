"""Findings are grouped by check and remedy, counted with those that nobody names, and lead to their marks."""

import random
from dataclasses import replace

import full_size
import pytest

from pytest_q3omni.records import Facts, Finding, InputRange, Judgement, StageSize, Traffic
from pytest_q3omni.report import html
from pytest_q3omni.report.html.findings import findings
from pytest_q3omni.report.html.inputs import inputs
from pytest_q3omni.report.html.layers import layer_maps
from pytest_q3omni.report.html.places import Places, Spot, spot
from pytest_q3omni.report.html.weights import weights

pytestmark = pytest.mark.tiny

LAYERS = "model.layers"
FIX = "pack this module again from the source"


def finding(where: str, *, check: str = "packed-weights", found: str = "relative error 0.4", **changes: str) -> Finding:
    return replace(Finding(check, "error", where, found, "at most 1", FIX), **changes)


def expert(layer: int, number: int, last: str = "weight") -> str:
    return f"{LAYERS}.{layer}.mlp.experts.{number}.up_proj.{last}"


def errors(layers: int, experts: int) -> dict[str, tuple[float, float]]:
    return {expert(layer, number): (0.095, 0.15) for layer in range(layers) for number in range(experts)}


def judged(found: list[Finding], **changes: object) -> Judgement:
    size = StageSize(100, 200, 57, 100)
    facts = Facts(400, 228, 4.56, 3.5, 3.5, 1.0, 1.0, {"decoder": size}, {f"{LAYERS}.{n}": size for n in range(4)})
    return replace(full_size.judgement(), findings=tuple(found), facts=facts, tensor_errors=errors(4, 32), **changes)


MANY = [
    *(finding(expert(layer % 4, layer)) for layer in range(20)),
    finding(expert(3, 31), found="the last of 1,214 more findings of this kind: relative error 0.4"),
]


def test_like_findings_are_one_group_that_counts_all() -> None:
    grouped = findings(MANY, Places(MANY), ())
    (group,) = grouped.groups
    assert (group.check, group.verdict, group.total, len(group.named)) == ("packed-weights", "faithful", 1234, 21)
    assert (group.fix, group.expected) == (FIX, "at most 1")
    assert (grouped.errors, grouped.warnings, grouped.left_out) == (1234, 0, 0)
    page = html.render_judgement(judged(MANY))
    assert "21 of 1,234 named" in page
    assert page.count(FIX) == 1
    assert '<a href="#f0">packed-weights</a> (1,234)' in page, "the verdict leads to it"
    assert page.count("<details>") >= 1


def test_checks_remedies_and_severities_are_apart() -> None:
    found = [
        finding("a"),
        finding("b", fix="another"),
        finding("c", check="global-scales"),
        finding("d", severity="warning"),
    ]
    grouped = findings(found, Places(found), ())
    assert [group.named[0].where for group in grouped.groups] == ["a", "b", "c", "d"]
    assert (grouped.errors, grouped.warnings) == (3, 1)
    assert [group.check for group in grouped.of("consistent")] == ["global-scales"]


def test_remedies_that_heal_one_finding_each_are_one_group() -> None:
    found = [finding(f"config.{n}", check="quantized-layers", fix=f"write {n}") for n in range(9)]
    found += [finding(f"config.{n}", check="quantized-layers") for n in "ab"]
    same, each = findings(found, Places(found), ()).groups
    assert (same.fix, same.total) == (FIX, 2)
    assert (each.fix, each.total, each.named[8].fix) == ("", 9, "write 8")
    assert "fix: write 8" in html.render_judgement(judged(found))


def test_a_page_of_ever_new_checks_ends() -> None:
    found = [finding("x", check=f"check-{n}") for n in range(200)]
    assert findings(found, Places(found), ()).left_out == 140
    assert "140 more kinds of findings are not shown" in html.render_judgement(judged(found))


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (expert(3, 7, "weight_scale_2"), Spot(LAYERS, 3, 7)),
        (f"{LAYERS}.3.mlp.experts.7.down_proj", Spot(LAYERS, 3, 7)),
        (f"{LAYERS}.3.mlp.experts", Spot(LAYERS, 3, "mlp.experts")),
        (f"{LAYERS}.3.mlp.experts.down_proj", Spot(LAYERS, 3, "mlp.experts.down_proj")),
        (f"{LAYERS}.3.self_attn.q_proj.input_scale", Spot(LAYERS, 3, "self_attn.q_proj")),
        (f"{LAYERS}.3.input_layernorm.weight", Spot(LAYERS, 3, "input_layernorm")),
        (f"{LAYERS}.3", Spot(LAYERS, 3, "")),
        (
            f"config.json.quantization_config.quantized_layers.{LAYERS}.0.self_attn.k_proj.group_size",
            Spot(LAYERS, 0, "self_attn.k_proj"),
        ),
        ("thinker.lm_head.weight", None),
        ("config.json", None),
        ("", None),
    ],
)
def test_the_spot_of_a_place(where: str, found: Spot | None) -> None:
    assert spot(where) == found


def test_a_place_leads_to_its_expert_and_else_to_its_layer() -> None:
    found = [finding(expert(2, 5, "weight_scale_2")), finding(f"{LAYERS}.1.input_layernorm.weight"), finding("config")]
    page = html.render_judgement(judged(found))
    assert '<a href="#p0"><bdi>' in page
    assert '<rect class="spot" id="p0" x="5" y="2" width="1" height="1"/>' in page
    assert '<a href="#l1"><bdi>' in page
    assert 'id="l1"' in page
    assert page.count('<a href="#l1') == 1
    assert "<bdi>config</bdi></b>" in page, "no map shows it"


def test_what_nobody_compared_is_marked_where_it_is_missing() -> None:
    known = errors(4, 32)
    del known[expert(2, 5)]
    found = [finding(expert(2, 5, "weight_scale_2"))]
    shown = weights(known, Places(found))
    assert shown is not None
    first, second = shown.maps
    assert (first.rows[2].cells[5].value, first.rows[2].cells[5].crossed) == (None, True)
    assert first.named == second.named == [("2", "5")]
    assert [name for name, *_ in first.spots] == ["p0"]
    assert second.spots == [], "a link leads to one place"


def test_layers_show_bits_and_errors_mean_and_worst() -> None:
    sizes = {f"{LAYERS}.0": StageSize(100, 200, 57, 100), f"{LAYERS}.1": StageSize(100, 200, 101, 0, 100)}
    sizes |= {"towers.blocks.0": StageSize(100, 200, 200, 0), "lm_head": StageSize(1, 2, 2, 0)}
    known = {**errors(2, 4), expert(1, 3): (0.495, 1.0)}
    bits, relative = layer_maps(sizes, known, Places([finding(expert(1, 3))]))
    assert [(row.label, [cell.text if cell else "" for cell in row.cells]) for row in bits.rows] == [
        ("model", ["4.56", "8.08"]),
        ("towers", ["16", ""]),
    ]
    assert [bits.shade(cell) for row in bits.rows for cell in row.cells if cell] == ["s0", "s2", "s4"]
    assert [(row.label, [cell.text if cell else "" for cell in row.cells]) for row in relative.rows] == [
        ("model: mean", ["0.0950", "0.1950"]),
        ("model: worst", ["0.0950", "0.4950"]),
    ]
    assert bits.named == [("model", "1")]
    assert relative.named == [("model: worst", "1")]


def test_without_layers_and_errors_there_are_no_maps() -> None:
    assert layer_maps({"lm_head": StageSize(1, 2, 2, 0)}, {}, Places([])) == []
    unknown = replace(judged([]).facts, layers={})
    page = html.render_judgement(replace(judged([]), facts=unknown, tensor_errors={}))
    assert "Layer by layer" not in page
    assert "Weights beside" not in page


def test_a_warning_crosses_the_layer_but_not_its_error() -> None:
    found = [finding(f"{LAYERS}.1.mlp.experts", check="expert-coverage", severity="warning")]
    bits, relative = layer_maps(judged([]).facts.layers, errors(4, 2), Places(found))
    assert bits.named == [("model", "1")]
    assert relative.named == []


def test_figures_stand_beside_what_was_planned() -> None:
    facts = replace(judged([]).facts, quantized_fraction=0.25, planned_quantized_fraction=0.5, fp8_fraction=0.125)
    page = html.render_judgement(replace(judged([]), facts=facts))
    rows = {row.split("</th>")[0]: row for row in page.split('<tr><th scope="row">')}
    assert "≠ not as planned" in rows["in NVFP4"]
    assert "25.00 %" in rows["in NVFP4"]
    assert "50.00 %" in rows["in NVFP4"]
    assert "as planned" in rows["compression ratio"]
    assert "12.50 %" in rows["in FP8"]
    assert "planned" not in rows["tensor bytes"]
    assert page.count("in FP8") >= 3, "stages and layers say it, too"


def test_a_checkpoint_that_cannot_be_read_has_no_sizes() -> None:
    nothing = Facts(0, 0, 0.0, 0.0, 1.22, 0.0, 0.25, {})
    page = html.render_judgement(replace(judged([]), facts=nothing, tensor_errors={}))
    assert "None of the weights could be read" in page
    assert "not as planned" not in page


@pytest.mark.parametrize(
    ("layers", "experts", "stacks"),
    [(94, 128, ("model.layers",)), (48, 512, ("model.layers",)), (48, 128, ("thinker.model.layers", "talker.layers"))],
)
def test_the_largest_models_fit(layers: int, experts: int, stacks: tuple[str, ...]) -> None:
    draw = random.Random(0)
    names = [f"{stack}.{n}" for stack in stacks for n in range(layers)]
    known = {
        f"{layer}.mlp.experts.{number}.up_proj.weight": (draw.uniform(0.07, 0.12), draw.uniform(0.1, 0.3))
        for layer in names
        for number in range(experts)
    }
    facts = replace(
        judged([]).facts, layers={name: StageSize(100, 200, draw.randrange(50, 200), 100) for name in names}
    )
    page = html.render_judgement(replace(judged(MANY), facts=facts, tensor_errors=known))
    assert len(page.encode()) < 2_000_000
    assert page.count("error of the worst block of 16 <span") == len(stacks)


def test_a_dense_model_without_experts_has_its_map() -> None:
    known = {f"{LAYERS}.{n}.mlp.{name}_proj.weight": (0.095, 0.15) for n in range(3) for name in ("gate", "up", "down")}
    shown = weights(known, Places([]))
    assert shown is not None
    assert [[column.name for column in each.columns] for each in shown.maps] == [["gate", "up", "down"]] * 2


def test_an_input_stands_beside_its_largest_and_its_smallest_scale() -> None:
    gate = f"{LAYERS}.0.mlp.experts.{{}}.gate_proj"
    low = gate.format(7)
    ranges = [InputRange(gate.format(1), 80.0, 40.0, low, 2.0), InputRange(f"{LAYERS}.0.self_attn.o_proj", 80.0, 40.0)]
    shown = inputs(ranges, {f"{low}.input_scale"})
    assert shown is not None
    (drawn,) = shown.maps
    rows = [(row.label, row.cells[0].text, row.cells[0].crossed) for row in drawn.rows if row.cells[0]]
    assert rows == [
        ("gate_up, largest scale", "0.50", False),
        ("gate_up, smallest scale", "20.00", True),
        ("o", "0.50", False),
    ]
    assert (shown.count, shown.clipped, shown.fullest[0].module) == (2, 1, low)


def test_what_a_hub_sent_is_said() -> None:
    page = html.render_judgement(replace(judged([]), fetched=Traffic(12_345_678, 9)))
    assert "Read from the hub: 12,345,678 bytes in 9 requests" in page


def test_a_strangers_names_do_not_make_a_page_without_end() -> None:
    evil = "<b>\u202e\n" + "x" * 10_000
    size = StageSize(1, 2, 2, 0)
    names = {f"{evil}{n}.layers.{n}": size for n in range(300)} | {f"s.layers.{n}": size for n in range(2000)}
    names |= {f"q{n}.{evil}": size for n in range(300)}
    known = {f"{evil}.layers.{n}.mlp.experts.{n}.up_proj.weight": (0.1, 0.2) for n in range(300)}
    known |= {f"t{n}.layers.{m}.w.weight": (0.1, 0.2) for n in range(40) for m in range(50)}
    found = [finding(f"{evil}.layers.{n}.x", found=evil, expected=evil, fix=f"{evil}{n}") for n in range(300)]
    facts = replace(judged([]).facts, layers=names, stages={evil: size})
    page = html.render_judgement(replace(judged(found), checkpoint=evil, facts=facts, tensor_errors=known))
    assert len(page.encode()) < 1_500_000
    assert "x" * 1000 not in page
    assert "more maps like this are not drawn" in page
    assert "more rows: <code>" in page
