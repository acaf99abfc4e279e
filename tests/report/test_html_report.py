"""The page: every figure appears, nothing is executable, nothing needs the network, and nothing needs colour."""

import math
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import full_size
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.parity.verdict import with_parity
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import (
    CalibrationRecord,
    Facts,
    Finding,
    InputRange,
    Judgement,
    SampleFailure,
    StageSize,
    Verdict,
)
from pytest_q3omni.report import html
from pytest_q3omni.report.html.figures import clipped, number

pytestmark = pytest.mark.tiny

PARITY = full_size.parity()
LAYER = "thinker.model.layers.0"
WEIGHT = f"{LAYER}.mlp.experts.3.up_proj.weight"
STYLE = Path(html.__file__).with_name("templates") / "style.css"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='x",
    "</style><script>",
    "{{ 7 * 7 }}",
    "layers.1.<svg/onload=x>",
    "a.layers.3.\u202egnp.exe",
    "\x1b[31m",
    "]]>",
    "<!--",
    "x.layers.0.mlp.experts.9" + "9" * 5000,
    "\u05d0\u05d1.layers.2.\n`x`." + "y" * 10_000 + "'\"<b>",
    "\ud800&amp;\x00\u2066",
)


class Page(HTMLParser):
    """Tags, what they load, where links lead, their names in words, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: list[str] = []
        self.handlers: list[str] = []
        self.pictures: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()
        self.flat = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += " " if tag in ("td", "th", "dd", "dt") else ""
        self.loaded += [value or "" for name, value in attrs if name in ("src", "data", "action", "srcset")]
        self.links += [value or "" for name, value in attrs if name in ("href", "xlink:href")]
        self.anchors += [value or "" for name, value in attrs if name == "id"]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        words = dict(attrs)
        if tag == "img" or words.get("role") == "img":
            self.pictures.append(words.get("alt") or words.get("aria-label") or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.text += data

    def stays_inside(self) -> bool:
        """Nothing is loaded, and every link leads to one place on the page, whose name is ours."""
        ours = all(re.fullmatch(r"[a-z]+\d*", anchor) for anchor in self.anchors)
        single = len(self.anchors) == len(set(self.anchors))
        inner = {link.removeprefix("#") for link in self.links} <= set(self.anchors)
        return ours and single and inner and all(each.startswith("data:image/png;base64,") for each in self.loaded)


def judgement(where: str = WEIGHT, why: str = "all bytes as planned") -> Judgement:
    stages = {"thinker": StageSize(1000, 2000, 600, 900), "code2wav": StageSize(100, 200, 200, 0)}
    packed, mixed = StageSize(400, 800, 225, 400), StageSize(400, 800, 400, 200)
    layers = {f"thinker.model.layers.{n}": mixed if n == 2 else packed for n in range(6)} | {"thinker.lm_head": packed}
    facts = Facts(1100, 800, 8 * 800 / 1100, 2200 / 800, 2.8, 900 / 1100, 0.9, stages, layers)
    finding = Finding("shared-scales", "error", where, "global scale 0.25", "0.5, as gate_proj has", "pack it again")
    return Judgement(
        checkpoint="some/checkpoint",
        verdicts=(Verdict("packed", "pass", why), Verdict("loads", "not checked", "needs vLLM")),
        findings=(finding,),
        facts=facts,
        tensor_errors={where: (0.095, float("inf")), f"{LAYER}.self_attn.q_proj.weight": (0.0941, 0.15)},
    )


def record() -> CalibrationRecord:
    tokens = {
        "text": {f"{LAYER}.mlp.experts": (5, 0, 7, 1200)},
        "audio": {f"{LAYER}.mlp.experts": (1, 2, 3)},
    }
    failures = (SampleFailure("samples.jsonl:7", "no such image"),)
    return CalibrationRecord("nvfp4-default", "f", {}, tokens, 60, {"text": 60, "audio": 20}, failures)


@pytest.fixture(scope="module")
def full() -> str:
    judged = with_parity(full_size.judgement(), PARITY)
    return html.render_judgement(judged, record=full_size.record(), parity=PARITY)


def test_a_judgement_alone_is_a_whole_page() -> None:
    page = Page(html.render_judgement(judgement()))
    figures = ("some/checkpoint", "2.75×", "5.82", "81.82 %", "planned 2.80×", "planned 90.00 %", "800 bytes")
    for text in (*figures, "not checked", "needs vLLM", "shared-scales", "pack it again", "inf", "0.0950"):
        assert text in page.text, text
    assert "Passed" in page.text
    for section in ("Tokens per expert", "Answers beside", "Speech beside", "Inputs and their scales"):
        assert section not in page.text, section


def test_a_judgement_of_nothing_is_a_page_too() -> None:
    nothing = replace(judgement(), findings=(), tensor_errors={}, facts=Facts(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, {}))
    page = Page(html.render_judgement(nothing))
    assert "None." in page.text
    assert "Weights beside" not in page.text


def test_equal_layers_are_one_row_and_others_stand_out() -> None:
    page = Page(html.render_judgement(judgement()))
    assert "thinker.model.layers 0–1 4.500" in page.flat
    assert "thinker.model.layers 2 8.000" in page.flat
    assert "thinker.model.layers 3–5 4.500" in page.flat
    assert "thinker.lm_head outside layers 4.500" in page.flat
    assert "stack 0 1 2 3 4 5 thinker 4.50 4.50 8 4.50 4.50 4.50" in page.flat


def test_plan_and_record_add_what_they_know() -> None:
    page = Page(
        html.render_judgement(judgement(), plan=build_plan(checkpoint_path(), "nvfp4-default"), record=record())
    )
    for text in ("Recipe nvfp4-default, W4A4", "59 of 60 conversations passed", "samples.jsonl:7: no such image"):
        assert text in page.text, text
    assert "× no tokens: layer 0: expert 1." in page.flat


def test_an_expert_without_tokens_is_seen_without_colour() -> None:
    page = html.render_judgement(judgement(), record=record())
    assert page.count('<td class="none x">0</td>') == 1
    assert "td.x::before" in page


def test_a_tensor_that_a_finding_names_is_crossed_and_named() -> None:
    page = html.render_judgement(judgement())
    assert '<td class="h1 x">inf</td>' in page
    assert "named in a finding: layer 0: 3." in Page(page).flat


def test_full_size_shows_faults_and_stays_small(full: str) -> None:
    assert len(full.encode()) < 1_500_000
    page = Page(full)
    for text in (
        "2.56×", "25.65 GiB", "27,542,850,146", "thinker.model.layers 0–47 4.644",
        "layer 12: expert 3, 90; layer 40: expert 17.",  # uncovered
        "named in a finding: layer 23: 77; layer 31: 5.", full_size.FAULTY, "0.4120", "1.7500",
        "named in a finding: input down: layer 31.", "20.000 (clipped)",
        "0.218 ± 0.016", "0.193", "audio, W4A4", "faithful, agrees; 3 of 7 verdicts passed",
        "equal waveforms", "-1.8 dB", "22.00 %", "212", "The picture shows a bicycle.",
        "9.4 dB 61.3 dB", "SNR, same codes", "code_predictor, W4A4",
    ):  # fmt: skip
        assert text in page.flat, text


def test_every_figure_of_the_answers_is_on_the_page(full: str) -> None:
    text = Page(full).flat
    for row in PARITY.agreements:
        for kl in (row.divergence, row.plain, row.apart, row.repeat):
            values = (kl.mean, kl.error, kl.median, kl.p99, kl.p999, kl.largest)
            assert " ".join(map(number, values)) in text, row
        assert f"{row.divergence.tokens:,} ({row.needed_tokens:,})" in text
    for part in PARITY.speech:
        assert f"{part.numerics.upper()} numerics" in text


def test_nothing_is_loaded_or_run(full: str) -> None:
    page = Page(full)
    assert page.loaded
    assert page.stays_inside(), "one file, offline"
    assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(page.tags)
    assert page.handlers == []
    assert "url(" not in full
    assert "@import" not in full


def test_every_picture_has_words_and_every_table_headers(full: str) -> None:
    page = Page(full)
    assert len(page.pictures) > 15
    assert all(page.pictures)
    assert all("<th scope=" in table for table in re.findall(r"<table.*?</table>", full, re.DOTALL))
    assert full.count("<table") > 10


def test_spectrograms_are_pictures_of_the_data(full: str) -> None:
    from io import BytesIO

    image = pytest.importorskip("PIL.Image", reason="the oracle that reads the PNG")
    uris = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="spectrogram, (\w+)', full)
    assert [name for _, name in uris] == ["original", "quantized"] * 2
    loudest = max(max(row) for row in PARITY.speech[0].spectrograms["original"])
    for encoded, _ in uris:
        picture = image.open(BytesIO(b64decode(encoded)))
        picture.load()
        assert picture.size == (160, 48)
    first = image.open(BytesIO(b64decode(uris[0][0])))
    rows = PARITY.speech[0].spectrograms["original"]
    band = next(index for index, row in enumerate(rows) if loudest in row)
    assert first.getpixel((rows[band].index(loudest), 47 - band)) == 255, "low frequencies are at the bottom"


def test_a_silent_spectrogram_is_a_picture() -> None:
    silent = {name: ((-80.0, -80.0),) * 3 for name in ("original", "quantized")}
    parity = replace(PARITY, speech=(replace(PARITY.speech[0], spectrograms=silent),))
    page = Page(html.render_judgement(judgement(), parity=parity))
    assert "spectrogram, quantized: -80.0 dB on average" in page.pictures


def test_answers_that_do_not_differ_stand_at_zero() -> None:
    same = replace(full_size.divergence(0.0), error=0.0)
    rows = tuple(replace(row, repeat=same, divergence=same, plain=same, limit=0.0) for row in PARITY.agreements)
    source = html.render_judgement(judgement(), parity=replace(PARITY, agreements=rows, inputs=(), speech=()))
    assert any("text w4a16: 0, limit 0, pass" in words for words in Page(source).pictures)
    assert '<svg x="2.00%" y="50%"' in source
    assert '<span style="left:2.00%">0</span>' in source


def test_a_model_that_computes_nan_is_on_the_page() -> None:
    broken = replace(
        full_size.divergence(0.1), **dict.fromkeys(("mean", "error", "median", "p99", "p999", "largest"), math.inf)
    )
    rows = tuple(replace(row, divergence=broken, state="fail") for row in PARITY.agreements)
    voice = replace(PARITY.speech[0], codebooks=(broken, *PARITY.speech[0].codebooks[1:]))
    source = html.render_judgement(judgement(), parity=replace(PARITY, agreements=rows, speech=(voice,)))
    page = Page(source)
    assert any("talker w4a16: inf, limit 0.092, fail" in words for words in page.pictures)
    assert "inf inf inf inf inf inf" in page.flat
    assert any("0 inf" in words for words in page.pictures), "and its codebook"
    assert "nan" not in source.lower().split()


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_hostile_name_becomes_markup(name: str) -> None:
    _stays_text(name)


@settings(deadline=None, max_examples=25, phases=[Phase.generate])  # shrinking a page takes minutes
@given(name=st.text(min_size=1, max_size=60))
def test_no_name_becomes_markup(name: str) -> None:
    _stays_text(name)


def _stays_text(name: str) -> None:
    """The same tags and sources, whatever checkpoint, record and run are called."""
    hostile, harmless = Page(_named(name)), Page(_named("harmless"))
    for kind in ("script", "img", "style", "iframe", "object"):
        assert hostile.tags.count(kind) == harmless.tags.count(kind), kind
    assert hostile.handlers == []
    assert hostile.stays_inside()
    cut = clipped(name, 300)
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)
    assert shown in hostile.text
    assert "\x1b" not in hostile.text
    assert "\u202e" not in hostile.text


def _named(name: str) -> str:
    """A page that has the name everywhere where a file can put one."""
    size, judged, parity = StageSize(1, 2, 2, 0), judgement(name, why=name), PARITY
    judged = replace(
        judged,
        checkpoint=name,
        tensor_errors={name: (0.1, 0.2), f"{name}.weight": (0.1, 0.2)},
        facts=replace(judged.facts, layers={name: size}, stages={name: size}),
    )
    tokens = {name: {name: (1, 0), f"{name}.layers.1.mlp.experts": (1, 0)}}
    seen = CalibrationRecord(name, "f", {}, tokens, 1, {}, (SampleFailure(name, name),), {name: name})
    said = [replace(sample, conversation=name, text=(name, f"{name}!")) for sample in parity.speech[0].samples]
    ran = replace(
        parity,
        original=name,
        device=name,
        versions={name: name},
        speech=(replace(parity.speech[0], samples=tuple(said), spectrograms={}),),
        inputs=(InputRange(name, 1.0, 2.0), InputRange(f"{name}.layers.2.x", 0.0, 2.0)),
    )
    return html.render_judgement(judged, record=seen, parity=ran)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast(theme: str) -> None:
    """4.5 to 1 at least, as WCAG AA asks, in both themes; and shades keep their order in greyscale."""
    light, dark = STYLE.read_text().split("@media screen and (prefers-color-scheme: dark)")
    source = light if theme == "light" else dark
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", source.split("* { box-sizing")[0]))
    pairs = [(ink, paper) for ink in ("ink", "soft", "good", "bad", "warn", "accent") for paper in ("paper", "card")]
    pairs += [("good", "goodback"), ("bad", "badback"), *(("ink", f"s{n}") for n in range(4))]
    pairs += [("paper", shade) for shade in ("s4", "s5", "h0", "h1")]
    for ink, paper in pairs:
        high, low = sorted((_luminance(colours[ink]), _luminance(colours[paper])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, paper)
    for scale in (("s0", "s1", "s2", "s3", "s4", "s5"), ("s0", "s1", "s2", "s3", "s4", "h0", "h1")):
        shades = [_luminance(colours[shade]) for shade in scale]
        assert shades == sorted(shades, reverse=theme == "light"), scale


def _luminance(colour: str) -> float:
    """Relative luminance, as WCAG defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
