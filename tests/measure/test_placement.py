"""Models that lie in several places: layers split by accelerate, heads sharded by transformers.

Wherever the weights lie, the figures are those of the model in one place.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from turbo_kv.measure.analyze import analyze
from turbo_kv.measure.compare_generation import compare_generation
from turbo_kv.measure.perplexity import measure_perplexity
from turbo_kv.measure.transcript import GenerationRequest
from turbo_kv.models import load as load_module
from turbo_kv.models import placement
from turbo_kv.models.load import load
from turbo_kv.quant.config import QuantConfig

ROOT = Path(__file__).parents[2]
CONTEXT = 300
LAYERS = 12


@pytest.fixture
def split(monkeypatch, tmp_path):
    """From now on device "split" keeps every second layer of tiny on the disk."""
    places = {f"model.layers.{layer}": ("cpu", "disk")[layer % 2] for layer in range(LAYERS)}
    places |= dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb"), "cpu")
    options = {"device_map": places | {"lm_head": "cpu"}, "offload_folder": str(tmp_path)}
    monkeypatch.setattr(placement, "arguments", lambda *_: options)
    monkeypatch.setattr(load_module, "_kept", {})
    return options


@pytest.mark.parametrize("centering", ["mean", "bias"])
def test_an_analysis_of_a_split_model_is_that_of_a_whole_one(request, centering):
    config = QuantConfig(centering=centering)
    whole = analyze(context=CONTEXT, device="cpu", dtype="fp32", config=config).to_dict()
    request.getfixturevalue("split")
    parted = analyze(context=CONTEXT, device="split", dtype="fp32", config=config).to_dict()
    assert any(weight.is_meta for weight in load("tiny", "split", dtype="fp32").model.parameters())
    for part in ("memory", "keys", "values", "attention"):
        assert parted[part] == whole[part]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there offloaded layers work on the GPU")
def test_the_live_cache_of_a_split_model_predicts_alike(request):
    config = QuantConfig(centering="bias", bits=4)
    asked = {"context": CONTEXT, "dtype": "fp32", "config": config}
    whole = measure_perplexity(device="cpu", **asked)
    spoken = GenerationRequest("The city was founded in", new_tokens=8, device="cpu", dtype="fp32")
    *_, said = compare_generation(spoken)
    request.getfixturevalue("split")
    parted = measure_perplexity(device="split", **asked)
    assert (parted.quality, parted.after) == (whole.quality, whole.after)
    *_, again = compare_generation(GenerationRequest(**spoken.__dict__ | {"device": "split"}))
    assert [again.said(stream) for stream in ("exact", "packed")] == [
        said.said(stream) for stream in ("exact", "packed")
    ]


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="needs one device")
def test_a_split_on_a_machine_of_one_device_is_that_device():
    loaded = load("tiny", "split", dtype="fp32")
    assert loaded.placement == str(loaded.device) == str(loaded.model.device)


@pytest.mark.parametrize(("device", "package"), [("split", "accelerate"), ("shard", "accelerate")])
def test_a_missing_package_is_named(monkeypatch, device, package):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(placement, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"needs {package}, .*: pip install {package}"):
        load("tiny", device)


def test_sharding_without_torchrun_says_how_to_start_it(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match="torchrun --nproc-per-node 2 -m turbo_kv perplexity"):
        load("tiny", "shard")


def test_heads_that_cannot_be_dealt_out_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ValueError, match="2 KV heads cannot be sharded over 3 processes; choose"):
        load("tiny", "shard")


def test_two_processes_find_the_figures_of_one(tmp_path):
    config = QuantConfig(centering="bias")
    place, environment = "cuda", dict(os.environ)
    if torch.cuda.device_count() < 2:
        place, environment["CUDA_VISIBLE_DEVICES"] = "cpu", ""
    one = measure_perplexity(context=CONTEXT, device=place, dtype="fp32", config=config).to_dict()
    result = tmp_path / "two.json"
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2"
    command = "-m turbo_kv perplexity --tensor-parallel --no-recall --dtype fp32 --centering bias"
    subprocess.run(
        [sys.executable, *f"{torchrun} {command} --context {CONTEXT} --json {result}".split()],
        cwd=ROOT,
        env=environment,
        check=True,
        timeout=200,
    )
    two = json.loads(result.read_text())
    assert two["model"]["device"].endswith("heads over 2 processes")
    assert two["model"]["weights_bytes"] < 0.6 * one["model"]["weights_bytes"]
    after = [each["memory"]["after_bytes"] for each in (two, one)]
    assert after[0] == pytest.approx(after[1], rel=1e-3)  # on GPUs each counts its pages' lengths
    for stream in ("reference", "quantized"):
        assert two[stream]["perplexity"] == pytest.approx(one[stream]["perplexity"], rel=1e-4)
    assert two["kl"]["mean"] == pytest.approx(one["kl"]["mean"], rel=1e-3)
