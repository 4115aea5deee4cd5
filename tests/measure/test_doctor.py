"""The doctor: one line for every question, and the truth where something is missing."""

import json

import pytest
from hub_server import Hub
from huggingface_hub import constants
from typer.testing import CliRunner

from turbo_kv.__main__ import app
from turbo_kv.measure import doctor


@pytest.fixture
def at(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none" / "yet"))

    def point(url):
        monkeypatch.setattr(constants, "ENDPOINT", url)

    point("http://127.0.0.1:9")
    return point


def found(name: str) -> doctor.Finding:
    (finding,) = [each for each in doctor.examine() if each.name == name]
    return finding


def test_every_question_has_one_line(at, tmp_path):
    findings = doctor.examine()
    looked = ("device", "path", "kernels", "dtype", "memory", "versions", "optional")
    weighed = ("will run", "will not", "hub", "cache")
    assert [finding.name for finding in findings] == [*looked, *weighed]
    assert all(finding.said and "\n" not in finding.said for finding in findings)
    assert not (tmp_path / "none").exists(), "looking made a folder"


def test_a_missing_compiler_is_told(at, monkeypatch):
    monkeypatch.setattr(doctor.choose, "_why_not_compiled", lambda *_: "no C compiler was found")
    if not doctor.torch.cuda.is_available():
        assert ", eager PyTorch on dense codes: no C compiler" in found("kernels").said


def test_the_hub_is_asked(at):
    assert found("hub").said.startswith("http://127.0.0.1:9 cannot be reached (ConnectError)")
    assert not found("hub").fine
    with Hub({}) as hub:
        at(hub.url)
        assert found("hub") == doctor.Finding("hub", f"{hub.url} answers")


def test_what_fits_and_what_does_not(at, monkeypatch):
    monkeypatch.setattr(doctor, "free_memory", lambda _: 5_000_000_000)
    assert found("will run").said == (
        "tiny, Qwen2.5-0.5B, Qwen2.5-1.5B, Qwen2.5-3B with --dtype int8; Instruct alike"
    )
    assert found("will not").said.startswith("Qwen2.5-7B, Qwen2.5-14B, ")


def test_a_missing_package_is_told_with_its_remedy(at, monkeypatch):
    versions = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: None if name in ("gradio", "torchao") else versions(name)
    )
    assert found("versions").said.endswith("; missing: pip install gradio")
    assert not found("versions").fine
    assert "no torchao (--dtype int8)" in found("optional").said


def test_the_command_prints_lines_and_json(at):
    result = CliRunner().invoke(app, ["doctor", "--json", "-"])
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["fine"] is False
    assert {finding["name"] for finding in data["findings"]} >= {"device", "hub", "will run"}
    assert "✗ hub" in result.stderr
