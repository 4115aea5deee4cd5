"""The command line: JSON on stdout and nothing else there, one clear line for a user's mistake."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from turbo_kv.__main__ import app
from turbo_kv.bench.stamp import commit
from turbo_kv.measure.prompts import EXAMPLES
from turbo_kv.models.catalog import CATALOG

STAMP = {"turbo_kv", "python", "torch", "transformers", "numpy", "platform", "date", "commit"}


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def analyze(folder, *arguments: object):
    return run("analyze", "--model", folder, "--context", 64, *arguments)


def test_analyze_prints_the_report_as_json(random_checkpoint):
    result = analyze(random_checkpoint, "--json", "-")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert set(data) >= {"model", "tokens", "config", "timing", "memory", "keys", "values"}
    assert data["tokens"] == data["attention"]["queries"] == 64
    assert data["config"]["bits"] == 3
    assert set(data["stamp"]) >= STAMP
    assert "attention KL is" in result.stderr


def test_every_flag_arrives_in_the_config(random_checkpoint, tmp_path):
    target = tmp_path / "report.json"
    flags = "--bits 4 --no-rotation --qjl --qjl-budget inside --qjl-on keys --centering bias"
    more = "--codebook trellis --scale-bits 8 --seed 7 --device cpu"
    result = analyze(random_checkpoint, *flags.split(), *more.split(), "--json", target)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert json.loads(target.read_text())["config"] == {
        "bits": 4,
        "rotation": False,
        "qjl": True,
        "qjl_budget": "inside",
        "qjl_on": "keys",
        "centering": "bias",
        "codebook": "trellis",
        "scale_bits": 8,
        "seed": 7,
    }


def test_reads_a_text_file(random_checkpoint, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Grüße, {{ 7 * 7 }} <script> 🎈 " * 3, encoding="utf-8")
    data = json.loads(analyze(random_checkpoint, "--text", text, "--json", "-").stdout)
    assert data["text"]["name"] == "your text"
    assert data["text"]["characters"] == len(text.read_text(encoding="utf-8"))


def mistakes(tmp_path):
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9 " * 50)
    (tmp_path / "short.txt").write_text("hi")
    return [
        (("--bits", 5), "bits is 5; choose one of 2, 3, 4"),
        (("--model", "qwen"), "is not known"),
        (("--context", 10**9), "context is 1,000,000,000 tokens"),
        (("--seed", -1), "seed is -1"),
        (("--device", "tpu"), "'tpu' is not available"),
        (("--text", tmp_path / "absent.txt"), "cannot read"),
        (("--text", tmp_path), "cannot read"),
        (("--text", latin), "is not UTF-8 text"),
        (("--text", tmp_path / "short.txt"), "at least"),
        (("--json", tmp_path / "no" / "folder.json"), "cannot write"),
    ]


@pytest.mark.parametrize("index", range(10))
def test_a_mistake_is_one_line_and_status_2(random_checkpoint, tmp_path, index):
    arguments, message = mistakes(tmp_path)[index]
    result = analyze(random_checkpoint, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.rstrip().splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("arguments", [("--centering", "median"), ("--bits", "three"), ("--wat",)])
def test_what_no_flag_allows_is_refused_before_anything_runs(arguments):
    result = run("analyze", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


def generate(folder, *arguments: object):
    return run("generate", "--model", folder, "--new-tokens", 8, *arguments)


def test_generate_prints_both_streams_as_json(random_checkpoint):
    flags = ("--prompt", "Once {{7*7}} 🎈", "--bits", 2, "--centering", "off")
    sampling = ("--temperature", 0.5, "--top-p", 0.9, "--sampling-seed", 3, "--seed", 4)
    result = generate(random_checkpoint, *flags, *sampling, "--device", "cpu", "--json", "-")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["prompt"]["text"] == "Once {{7*7}} 🎈"
    assert data["request"] == {
        "model": str(random_checkpoint),
        "new_tokens": 8,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "device": "cpu",
        "dtype": "auto",
        "exact_window": 0,
    }
    assert (data["config"]["bits"], data["config"]["seed"]) == (2, 4)
    assert len(data["exact"]["per_step"]) == len(data["packed"]["per_step"]) == 8
    assert set(data["stamp"]) >= STAMP
    assert "Both streams agree on" in result.stderr


def test_generate_reads_its_prompt_from_a_file_and_else_takes_an_example(
    random_checkpoint, tmp_path
):
    file = tmp_path / "prompt.txt"
    file.write_text("Grüße", encoding="utf-8")
    told = [
        json.loads(generate(random_checkpoint, *arguments, "--json", "-").stdout)["prompt"]["text"]
        for arguments in ((), ("--text", file))
    ]
    assert told == [next(iter(EXAMPLES.values())), "Grüße"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt", ""), "the prompt is empty"),
        (("--prompt", "a", "--text", "b"), "use one of them"),
        (("--prompt", "a", "--new-tokens", 0), "0 new tokens"),
        (("--prompt", "a", "--new-tokens", 9_999), "positions of this model"),
        (("--prompt", "a", "--temperature", -1), "temperature is -1"),
        (("--prompt", "a", "--top-p", 2), "top_p is 2"),
    ],
)
def test_a_mistake_in_generating_is_one_line_and_status_2(random_checkpoint, arguments, message):
    result = generate(random_checkpoint, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_plan_lists_every_size_with_the_published_example():
    result = run("plan", "--context", 8192, "--memory", 24, "--json", "-")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["memory_bytes"] == 24 * 2**30
    plans = {plan["model"]: plan for plan in data["models"]}
    assert set(plans) == {
        name for name in CATALOG if name != "tiny" and not name.endswith("-Instruct")
    }
    stored = plans["Qwen2.5-7B"]["memory"]
    assert stored["before_bytes"] == 448 * 2**20
    assert stored["after_bytes"] - stored["stored"]["means"] == 87.5 * 2**20
    assert plans["Qwen2.5-72B"]["longest_context"] == {"before": 0, "after": 0}
    longest = plans["Qwen2.5-7B"]["longest_context"]
    assert longest["after"] > 5 * longest["before"] > 0


def test_plan_takes_the_quantization_flags():
    flags = ("--qjl", "--centering", "off", "--batch", 2, "--json", "-")
    data = json.loads(run("plan", *flags).stdout)
    seven = next(plan for plan in data["models"] if plan["model"] == "Qwen2.5-7B")
    assert seven["memory"]["after_bytes"] == 2 * 119 * 2**20


def test_a_smoke_run_never_replaces_the_bundled_model(tmp_path):
    result = run("train-tiny", "--corpus", tmp_path, "--device", "cpu")
    assert result.exit_code == 2
    assert "--out" in result.stderr


def test_help_needs_neither_torch_nor_transformers():
    code = "import sys, turbo_kv.__main__; print({'torch', 'transformers'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
    shown = run("--help")
    assert shown.exit_code == 0
    for command in ("analyze", "generate", "plan", "train-tiny"):
        assert command in shown.stdout


def test_the_commit_is_the_checkouts_and_missing_outside_one(tmp_path):
    assert commit(tmp_path) is None
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "assets").mkdir()
    code, result = tmp_path / "code.py", tmp_path / "assets" / "result.json"
    for file in (code, result):
        file.write_text("1")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    clean = commit(tmp_path)
    assert head.stdout.startswith(clean)
    result.write_text("2")
    assert commit(tmp_path) == clean
    code.write_text("2")
    assert commit(tmp_path) == clean + "+"


def test_the_family_is_measured_by_one_command_and_every_row_is_answered(tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):  # restored after the command sets them
        monkeypatch.setenv(name, "0")
    flags = ("--models", "tiny,Qwen2.5-0.5B", "--contexts", 64, "--device", "cpu", "--offline")
    result = run("bench", "family", *flags, "--out", tmp_path, "--machine", "a machine")
    assert result.exit_code == 0, result.stderr
    assert "a-machine.json" in result.stderr
    rows = json.loads((tmp_path / "family" / "a-machine.json").read_text("utf-8"))["rows"]
    assert [row["missing"] is None for row in rows] == [True, False]
    assert "HF_HUB_OFFLINE forbids the network" in rows[1]["missing"]
    assert set(rows[0]["stamp"]) >= STAMP
    report = (tmp_path / "family.md").read_text("utf-8")
    assert "| a machine | tiny | trained | 64 |" in report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--contexts", "many"), "give whole numbers with commas between"),
        (("--models", "Qwen2.5-9B"), "is not known"),
        (("--text", "absent.txt"), "give a file, or wikitext-2"),
        (("--windows", -1), "windows is -1"),
        (("--device", "tpu"), "'tpu' is not available"),
    ],
)
def test_a_mistake_about_the_family_is_one_line_and_status_2(tmp_path, arguments, message):
    result = run("bench", "family", *arguments, "--out", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not list(tmp_path.iterdir())
