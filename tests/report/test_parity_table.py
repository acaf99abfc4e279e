"""The parity as tables: every row with its limit, sixteen codebooks on a page, infinities and hostile names."""

import math
from dataclasses import replace

import pytest

from pytest_q3omni.records import Agreement, Divergence, Finding, Parity, SpeechAgreement, SpeechSample, Verdict
from pytest_q3omni.report import terminal

pytestmark = pytest.mark.tiny


def some(mean, **options):
    known = {"conversations": 12, "tokens": 1234, "error": 0.0004, "top1": 0.975}
    return Divergence(
        mean=mean, median=mean / 2, p99=9 * mean, p999=20 * mean, largest=40 * mean, **{**known, **options}
    )


def row(modality, numerics="w4a16", state="pass", mean=0.0041, limit=0.021, **options):
    found = some(mean, **options)
    return Agreement(
        modality, numerics, found, some(0.0031), some(0.001), some(1e-6), 0.96, 0.98, 0.97, limit, 50, state
    )


ROWS = (row("text"), row("image", "w4a4", "fail", mean=0.5), row("audio", "w4a4", "not checked", limit=math.inf))
FINDING = Finding("answers", "error", "image answers in W4A4", "mean KL 0.5", "at most 0.021", "pack again")
PARITY = Parity(
    "/models/original", "/models/packed", "NVIDIA H100", {}, Verdict("agrees", "fail", "1 error, first image"), ROWS,
    findings=(FINDING,),
)  # fmt: skip


def speech(numerics, books, *samples):
    return SpeechAgreement(numerics, tuple(some(0.01 * (number + 1)) for number in range(books)), samples)


def cells(shown, *begin):
    """The cells of the row that begins so."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line.startswith("│")]
    (found,) = [cells for cells in rows if cells[: len(begin)] == list(begin)]
    return found


def test_a_row_shows_the_mean_its_reference_and_its_limit():
    shown = terminal.render_parity(PARITY)
    found = cells(shown, "text", "W4A16")
    for figure in ("1,234", "0.0041", "0.037", "0.0031", "0.021", "97.5%", "96.0%", "98.0%", "pass"):
        assert figure in found, figure
    assert cells(shown, "image", "W4A4")[-1] == "fail"
    assert cells(shown, "audio", "W4A4")[6] == "none", "an infinite limit is none"


def test_a_row_of_a_model_that_computes_nan_is_shown():
    broken = row("code_predictor", "w4a4", "fail", mean=math.inf, error=math.inf)
    found = cells(terminal.render_parity(replace(PARITY, agreements=(row("talker"), broken))), "code_predictor", "W4A4")
    assert (found[3], found[-1]) == ("inf", "fail")
    voice = SpeechAgreement("w4a4", (some(0.01), some(math.inf)), ())
    assert cells(terminal.render_parity(replace(PARITY, speech=(voice,))), "W4A4")[2] == "inf to inf"


def test_the_title_says_what_is_measured_and_where():
    title = " ".join(terminal.render_parity(PARITY).split("┏")[0].split())
    assert title.startswith("KL(BF16 || /models/packed) in nats per answer token on NVIDIA H100")
    assert "plain: ModelOpt's fake quantization" in title
    assert "token on" not in terminal.render_parity(replace(PARITY, device=""))


def test_it_ends_with_findings_and_the_verdict():
    shown = terminal.render_parity(PARITY)
    assert "error: image answers in W4A4" in shown
    assert shown.index("expected  at most 0.021") < shown.index("fix       pack again")
    assert shown.splitlines()[-1] == "agrees: fail: 1 error, first image"


def test_beside_a_judgement_findings_are_left_to_it():
    shown = terminal.render_parity(PARITY, findings=False)
    assert "pack again" not in shown
    assert "agrees" not in shown
    assert cells(shown, "text", "W4A16")


def test_sixteen_codebooks_fit_a_page():
    samples = (
        SpeechSample("a:1", "text", ("Hi", "Hi"), (40, 40), 1.0, None),
        SpeechSample("a:2", "audio", ("Hi", "Ho"), (40, 30), 0.415, -1.84),
    )
    found = replace(PARITY, speech=(speech("w4a16", 16, *samples), speech("w4a4", 1, *samples[:1])))
    shown = terminal.render_parity(found)
    assert cells(shown, "W4A16") == ["W4A16", "0.01", "0.02 to 0.16", "text 100%, audio 42%", "equal, -1.8 dB"]
    assert cells(shown, "W4A4")[1:3] == ["0.01", "none"], "no number is broken in two"
    assert max(map(len, shown.splitlines())) <= 120


def test_without_speech_there_is_no_table_of_it():
    assert "codebook" not in terminal.render_parity(PARITY)


def test_names_from_files_are_text():
    hostile = "[bold]x[/bold]\x1b[31m"
    where = replace(FINDING, where=hostile, found=hostile)
    verdict = replace(PARITY.verdict, why=hostile)
    shown = terminal.render_parity(
        replace(PARITY, quantized=hostile, device=hostile, findings=(where,), verdict=verdict)
    )
    assert shown.count("[bold]x[/bold]") == 5, "rich does not take it for markup"
    assert "\x1b[31m" not in shown, "nor does the terminal get control codes"
