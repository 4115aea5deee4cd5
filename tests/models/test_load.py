"""Loading: from a folder and from memory; and every way it can be refused."""

import gc
import json
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, Qwen2ForCausalLM

from turbo_kv.models import device as device_module
from turbo_kv.models import hub, placement, tiny
from turbo_kv.models import load as load_module
from turbo_kv.models.device import choose_device, choose_dtype, free_memory
from turbo_kv.models.load import load

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _nothing_kept():
    load_module._kept.clear()
    yield
    load_module._kept.clear()


@pytest.fixture
def folder(checkpoint, tmp_path) -> Path:
    """A copy of the checkpoint to damage."""
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


def edit_config(folder: Path, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# A folder


def test_a_folder_loads_with_exactly_its_weights(checkpoint):
    stored = Qwen2ForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    loaded = load(str(checkpoint), "cpu")
    assert loaded.name == checkpoint.name
    assert (loaded.device, loaded.dtype) == (CPU, torch.float32)
    assert loaded.dtype_reason.startswith("fp32")
    assert not loaded.model.training
    wanted, got = stored.state_dict(), loaded.model.state_dict()
    assert wanted.keys() == got.keys()
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    assert loaded.tokenizer.decode(loaded.tokenizer("wind SW 3")["input_ids"]) == "wind SW 3"


def test_weights_bytes_count_tied_tensors_once(checkpoint):
    loaded = load(str(checkpoint), "cpu")
    storages = {p.data_ptr(): p.untyped_storage().nbytes() for p in loaded.model.parameters()}
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert loaded.weights_bytes == sum(storages.values())


def test_progress_begins_and_ends(checkpoint):
    said = []
    load(str(checkpoint), "cpu", progress=lambda *step: said.append(step))
    assert [fraction for fraction, _ in said] == [0.0, 1.0]
    assert said[0][1].startswith(f"Loading {checkpoint.name} on cpu (fp32")


def test_the_last_model_is_kept_and_only_the_last(checkpoint, folder):
    first = load(str(checkpoint), "cpu")
    assert load(str(checkpoint), "cpu") is first
    gone = weakref.ref(first.model)
    del first
    load(str(folder), "cpu")
    gc.collect()
    assert gone() is None


def test_a_failed_load_keeps_the_last_model(checkpoint, tmp_path):
    first = load(str(checkpoint), "cpu")
    with pytest.raises(ValueError, match="lacks"):
        load(str(tmp_path), "cpu")
    assert load(str(checkpoint), "cpu") is first


@pytest.mark.parametrize("absent", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_is_told_what_it_lacks(folder, absent):
    (folder / absent).unlink()
    with pytest.raises(ValueError, match=rf"lacks {absent}; a model needs config\.json, token"):
        load(str(folder))


def test_pickled_weights_are_never_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"lacks model\.safetensors"):
        load(str(folder))


def test_a_missing_shard_is_named(folder, checkpoint):
    model = Qwen2ForCausalLM.from_pretrained(checkpoint)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    load(str(folder))
    load_module._kept.clear()
    shards[-1].unlink()
    with pytest.raises(ValueError, match=f"lacks {shards[-1].name};"):
        load(str(folder))


@pytest.mark.parametrize("model_type", ["gpt2", "mamba", None])
def test_other_architectures_are_refused_by_name(folder, model_type):
    edit_config(folder, model_type=model_type)
    with pytest.raises(ValueError, match=f"{model_type!r} is not supported; .* qwen2, qwen3, lla"):
        load(str(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "mistral", "sliding_window": 64, "layer_types": None},
        {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 64},
    ],
)
def test_sliding_windows_are_refused(folder, changes):
    edit_config(folder, **changes)
    with pytest.raises(ValueError, match="layers of sliding_attention; only full attention"):
        load(str(folder))


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_supported_architectures_load(tmp_path, tokenizer, config, model_type):
    values = config.to_dict() | {"model_type": model_type, "sliding_window": None}
    del values["layer_types"]
    kind = AutoConfig.for_model(model_type).__class__
    model = load_module.AutoModelForCausalLM.from_config(kind.from_dict(values))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load(str(tmp_path), "cpu").model.config.model_type == model_type


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"model_type": "qwen2", "hidden_size": "x"}']
)
def test_a_broken_configuration_is_named(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is not a model config|is not supported"):
        load(str(folder))


def test_damaged_weights_are_named(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"the weights in {folder} are damaged"):
        load(str(folder))


def test_a_damaged_header_is_named(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\xff" * 64 + weights.read_bytes()[64:])
    with pytest.raises(ValueError, match=f"the weights in {folder} are damaged"):
        load(str(folder))


def test_files_that_go_away_while_they_are_read_are_said(folder, monkeypatch):
    tokenizer = load_module.AutoTokenizer.from_pretrained

    def late(*arguments, **options):
        shutil.rmtree(folder)
        return tokenizer(*arguments, **options)

    monkeypatch.setattr(load_module.AutoTokenizer, "from_pretrained", late)
    with pytest.raises(ValueError, match="are damaged, or went away meanwhile"):
        load(str(folder))


def test_a_damaged_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=f"{folder} are damaged, or went away"):
        load(str(folder))


@pytest.mark.parametrize(
    "changes", [{"num_hidden_layers": 3, "layer_types": None}, {"head_dim": 64}]
)
def test_weights_of_another_model_are_refused_not_filled_with_noise(folder, changes):
    edit_config(folder, **changes)
    with pytest.raises(ValueError, match=r"do not fit its config\.json: \d+ tensors missing or of"):
        load(str(folder))


@pytest.mark.parametrize("name", ["Qwen2.5-8B", "no/such/folder", "", "a" * 5_000, "nul\0"])
def test_an_unknown_name_is_told_the_choices(name):
    with pytest.raises(ValueError, match=r"is not known; .*tiny.*, or give the path of a model f"):
        load(name)


# Device and dtype


def test_an_absent_device_is_told_the_present_ones(monkeypatch, checkpoint):
    monkeypatch.setitem(device_module._AVAILABLE, "cuda", lambda: False)
    with pytest.raises(
        ValueError, match=r"device 'cuda' is not available; choose one of auto, .*c"
    ):
        load(str(checkpoint), "cuda")
    with pytest.raises(ValueError, match="device 'tpu' is not available"):
        load(str(checkpoint), "tpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_device_present(monkeypatch, cuda, mps, chosen):
    monkeypatch.setitem(device_module._AVAILABLE, "cuda", lambda: cuda)
    monkeypatch.setitem(device_module._AVAILABLE, "mps", lambda: mps)
    assert choose_device() == torch.device(chosen)
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize(
    ("params", "free", "dtype"),
    [
        (1_000, 8_000, torch.float32),
        (1_000, 7_999, torch.bfloat16),
        (1_000, 2_000, torch.bfloat16),
    ],
)
def test_cpu_computes_in_fp32_when_that_leaves_half_the_memory(monkeypatch, params, free, dtype):
    monkeypatch.setattr(device_module, "free_memory", lambda _: free)
    assert choose_dtype(CPU, params)[0] == dtype


def test_weights_that_do_not_fit_are_refused_with_both_sizes(monkeypatch, checkpoint):
    monkeypatch.setattr(placement, "room", lambda *_: 1_000)
    with pytest.raises(
        ValueError, match=r"0\.00 GB do not fit in the 0\.00 GB free on cpu; choose"
    ):
        load(str(checkpoint), "cpu")


@pytest.mark.parametrize(
    ("wanted", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_the_dtype_asked_for_is_the_one_loaded(checkpoint, wanted, dtype):
    loaded = load(str(checkpoint), "cpu", dtype=wanted)
    assert {loaded.dtype, loaded.model.dtype} == {dtype}
    assert loaded.dtype_reason == f"{wanted}: as asked"
    assert load(str(checkpoint), "cpu", dtype=wanted) is loaded
    assert load(str(checkpoint), "cpu") is not loaded


def test_a_dtype_that_does_not_fit_is_told_one_that_does(monkeypatch):
    monkeypatch.setattr(device_module, "free_memory", lambda _: 3_000)
    with pytest.raises(ValueError, match=r"weights in fp32 .* choose --dtype bf16, a smaller mod"):
        choose_dtype(CPU, 1_000, "fp32")
    with pytest.raises(ValueError, match=r"16-bit weights .* choose --dtype int8, a smaller model"):
        choose_dtype(CPU, 2_000, "auto")
    with pytest.raises(ValueError, match=r"choose a smaller model or another device"):
        choose_dtype(CPU, 4_000, "int4")
    with pytest.raises(ValueError, match=r"dtype 'fp8' is not known; choose one of auto, bf16, fp"):
        choose_dtype(CPU, 1_000, "fp8")


def test_a_model_too_large_is_refused_before_its_download(monkeypatch):
    monkeypatch.setattr(placement, "room", lambda *_: 2_000_000_000)
    monkeypatch.setattr(hub, "fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(
        ValueError, match=r"Qwen2\.5-7B: 16-bit weights of 15\.23 GB .* Qwen2\.5-0\.5B.* fits"
    ):
        load("Qwen2.5-7B", "cpu")


@pytest.mark.parametrize(("wanted", "package"), [("int8", "torchao"), ("int4", "bitsandbytes")])
def test_fewer_bits_without_their_package_are_refused_by_name(
    checkpoint, monkeypatch, wanted, package
):
    monkeypatch.setattr(placement, "find_spec", lambda name: name != package or None)
    with pytest.raises(ValueError, match=f"dtype {wanted!r} needs {package}, .*: pip install"):
        load(str(checkpoint), "cpu", dtype=wanted)


@pytest.mark.parametrize("wanted", ["int8", "int4"])
def test_fewer_bits_answer_almost_alike(wanted):
    pytest.importorskip({"int8": "torchao", "int4": "bitsandbytes"}[wanted])
    tokens = torch.arange(300, 364)[None]
    with torch.no_grad():
        exact = load("tiny", "cpu", dtype="fp32").model(tokens).logits.log_softmax(-1)
        loaded = load("tiny", "cpu", dtype=wanted)
        fewer = loaded.model(tokens).logits.float().log_softmax(-1)
    assert "weights by" in loaded.placement
    divergence = (exact.exp() * (exact - fewer)).sum(-1).mean()
    assert 0 < divergence < {"int8": 0.02, "int4": 0.5}[wanted]


def test_what_the_allocator_holds_ready_on_a_gpu_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1_000, 9_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 500)
    assert free_memory(torch.device("cuda")) == 1_200


def test_free_memory_leaves_out_what_the_container_holds(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(device_module, "_CONTAINER_LIMITS", (limit,))
    limit.write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**29}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {2**28}\n")
    assert free_memory(CPU) == 2**30 - 2**29 + 2**28
    (tmp_path / "memory.current").write_text(f"{2**31}\n")
    assert free_memory(CPU) == 0


def test_free_memory_is_below_the_container_limit(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(device_module, "_CONTAINER_LIMITS", (limit,))
    unlimited = free_memory(CPU)
    assert unlimited > 2**20
    limit.write_text("max\n")
    assert free_memory(CPU) > 2**20
    limit.write_text(f"{2**20}\n")
    assert free_memory(CPU) == 2**20


# The bundled model


def test_a_missing_bundled_model_is_said_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(tiny, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"has no weights in .*; .* train-tiny --corpus DIR"):
        load("tiny", "cpu")


def test_the_bundled_model_is_named_tiny(monkeypatch, checkpoint):
    monkeypatch.setattr(tiny, "FOLDER", checkpoint)
    assert load("tiny", "cpu").name == "tiny"
