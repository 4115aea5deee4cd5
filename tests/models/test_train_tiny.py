"""Laws of the training's parts, and the whole path on a few kilobytes."""

import itertools
import json
import lzma
import math
from pydoc_data.topics import topics

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from turbo_kv.models import train_text
from turbo_kv.models.train_check import perplexity
from turbo_kv.models.train_gradient import Gradient
from turbo_kv.models.train_loop import batches, fit
from turbo_kv.models.train_model import (
    INNER_NORM,
    OFFSET_PROFILE,
    OUTER_NORM,
    TWIN_NORMS,
    build,
    key_bias_norms,
    planted_bias,
    tiny_config,
    twin_config,
)
from turbo_kv.models.train_muon import Muon, orthogonalize
from turbo_kv.models.train_plan import TWIN, TrainingPlan
from turbo_kv.models.train_tiny import train_tiny

TEXT = "\n".join(topics[name] for name in ("assignment", "for", "while", "class", "import"))
SMALL = tiny_config(vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=3)
QUICK = TrainingPlan(
    config=SMALL, tokens=2048, batch_tokens=256, contexts=(32, 64), long_share=0.25, warmup_steps=2
)


def write_corpus(folder):
    half = len(TEXT) // 2
    (folder / "b.txt").write_text(f"{TEXT[:half]}\n{train_text.END}\nA second document: é, 日本.\n")
    with lzma.open(folder / "a.txt.xz", "wt", encoding="utf-8") as file:
        file.write(TEXT[half:])
    (folder / "valid.txt").write_text("Zyxwv held out. " * 20)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("model")
    (out / "model-00001-of-00002.safetensors").write_bytes(b"an earlier model")
    return out, train_tiny(corpus, out, plan=QUICK, device="cpu")


@pytest.fixture(scope="module")
def documents(corpus):
    return train_text.read_documents(corpus)


def test_the_corpus_is_every_text_file_but_the_held_out_one(documents):
    assert len(documents) == 3
    assert documents[0] == TEXT[len(TEXT) // 2 :]
    assert "日本" in documents[2]
    assert not any("Zyxwv" in document for document in documents)


def test_the_stream_is_what_the_tokenizer_makes_of_the_file(documents, tmp_path):
    tokenizer = train_text.train_tokenizer(documents, 400)
    train_text.save_tokenizer(tokenizer, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    whole = train_text.END.join(documents)
    stream = train_text.encode(tokenizer, documents)
    assert stream.tolist() == loaded(whole)["input_ids"]
    assert loaded.decode(stream) == whole
    assert len(loaded) == 400
    assert loaded.eos_token_id == loaded.bos_token_id == 0
    assert (stream == 0).sum() == 2


def test_an_epoch_predicts_every_token_once_and_the_seed_decides_the_order():
    stream = torch.arange(1000)

    def epoch(seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.cat(list(itertools.islice(batches(stream, 10, 3, generator), 33)))

    windows = epoch(0)
    assert windows.shape == (99, 11)
    assert (windows.diff() == 1).all()
    assert windows[:, 1:].unique().numel() == windows[:, 1:].numel()
    assert torch.equal(windows, epoch(0))
    assert not torch.equal(windows, epoch(1))


def test_batches_go_on_past_the_end_of_a_short_stream():
    generator = torch.Generator().manual_seed(0)
    for windows in itertools.islice(batches(torch.arange(12), 10, 8, generator), 5):
        assert windows.shape == (8, 11)


@pytest.mark.parametrize("shape", [(2, 24, 64), (3, 64, 24), (1, 32, 32)])
def test_orthogonalize_keeps_directions_and_levels_singular_values(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    result = orthogonalize(matrices).float()
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    levelled = torch.linalg.svdvals(result)
    assert levelled.min() > 0.3
    assert levelled.max() < 1.3
    assert (
        torch.nn.functional.cosine_similarity(result.flatten(), (left @ right).flatten(), 0) > 0.9
    )


def test_muon_descends_and_its_step_has_the_size_of_its_rate():
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((8, 24), (24, 8), (8, 24))]
    before = [weight.detach().clone() for weight in weights]
    optimizer = Muon(weights, lr=0.01, weight_decay=0.0)
    sum(weight.square().sum() for weight in weights).backward()
    optimizer.step()
    for weight, old in zip(weights, before):
        step = weight.detach() - old
        grown = max(1, old.shape[0] / old.shape[1]) ** 0.5
        assert (step * old).sum() < 0
        assert torch.linalg.matrix_norm(step, 2) == pytest.approx(0.01 * grown, rel=0.3)


def test_the_planted_bias_has_the_norm_and_the_profile():
    torch.manual_seed(0)
    heads = planted_bias(2, 300.0).view(2, 2, 32)
    amplitude = heads.norm(dim=1)  # (H_kv, D / 2): pair i lies in coordinates i and i + D / 2
    assert heads.flatten(1).norm(dim=1) == pytest.approx(torch.tensor([300.0, 300.0]))
    expected = torch.tensor(OFFSET_PROFILE) / torch.tensor(OFFSET_PROFILE).norm() * 300
    torch.testing.assert_close(amplitude, expected.expand(2, -1))
    assert not torch.allclose(heads[0], heads[1])


def test_a_new_model_carries_the_hazard_and_the_architecture_of_qwen():
    config = tiny_config()
    assert (config.num_hidden_layers, config.num_key_value_heads, config.head_dim) == (12, 2, 64)
    assert config.tie_word_embeddings
    assert config.rope_parameters["rope_theta"] == 1e6
    model = build(config, seed=0)
    assert 10e6 < model.num_parameters() < 16e6
    norms = torch.tensor(key_bias_norms(model))
    torch.testing.assert_close(norms[[0, -1]], torch.full((2, 2), OUTER_NORM))
    torch.testing.assert_close(norms[1:-1], torch.full((10, 2), INNER_NORM))


def test_the_gradient_is_that_of_transformers_own_loss():
    model = build(SMALL, seed=0)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.normal_(std=0.02)
            layer.mlp.down_proj.weight.normal_(std=0.02)
    windows = torch.randint(400, (2, 33))
    loss = Gradient(model)(windows)
    ours = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    logits = model(windows[:, :-1]).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for name, weight in model.named_parameters():
        torch.testing.assert_close(ours[name], weight.grad, msg=name)


def test_fit_reads_the_planned_tokens_and_learns():
    stream = torch.arange(20).repeat(50)
    plan = TrainingPlan(
        config=SMALL, tokens=8192, batch_tokens=256, contexts=(32, 64), warmup_steps=2
    )
    model = build(SMALL, seed=0)
    training = fit(model, stream, plan, seconds=600.0, progress=lambda fraction, text: None)
    assert training.tokens == 8192
    assert [stage.context for stage in training.stages] == [32, 64]
    assert training.loss_curve[-1][1] < 0.7 * math.log(400)
    assert perplexity(model, stream, 64) < 0.1 * 400


def test_a_slow_machine_stops_by_the_clock():
    plan = TrainingPlan(
        config=SMALL, tokens=10**12, batch_tokens=256, contexts=(32, 64), warmup_steps=2
    )
    stream = torch.arange(20).repeat(50)
    training = fit(build(SMALL, 0), stream, plan, seconds=0.5, progress=lambda fraction, text: None)
    assert 0 < training.tokens < 10**7
    assert all(stage.steps for stage in training.stages)


def test_a_diverged_run_says_so():
    model = build(SMALL, seed=0)
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    with pytest.raises(RuntimeError, match="the loss is nan"):
        fit(model, torch.arange(200), QUICK, 600.0, lambda fraction, text: None)


def test_the_whole_path_leaves_a_model_that_transformers_loads(trained):
    out, report = trained
    model = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert model.dtype == torch.bfloat16
    assert len(tokenizer) == model.config.vocab_size == 400
    assert model.config.model_type == "qwen2"
    assert model.generation_config.eos_token_id == 0
    assert [path.name for path in out.glob("*.safetensors")] == ["model.safetensors"]
    assert key_bias_norms(model)[0] == pytest.approx([300, 300], rel=0.02)
    assert set(report.perplexity) == {"bfloat16", "float32"}
    held_out = tokenizer("Zyxwv held out. " * 20, return_tensors="pt")["input_ids"][0]
    assert report.perplexity["bfloat16"][512] == pytest.approx(perplexity(model, held_out, 512))


def test_the_report_adds_up_and_the_card_shows_it(trained):
    out, report = trained
    card = (out / "README.md").read_text()
    assert report.training.tokens == 2048
    assert report.seconds["total"] == pytest.approx(
        sum(seconds for lap, seconds in report.seconds.items() if lap != "total"), abs=0.05
    )
    assert f"| {report.training.stages[1].context} |" in card
    assert f"{report.perplexity['float32'][2048]:.2f}" in card
    assert "no manifest.json" in card


def test_the_card_lists_the_sources_of_the_manifest(corpus, tmp_path):
    source = {
        "name": "letters",
        "repos": {"a/b": "0" * 40},
        "licence": "CC0-1.0",
        "bytes": 1_500_000,
    }
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"sources": [source]}))
    (tmp_path / "a.txt").write_text(TEXT)
    train_tiny(tmp_path, tmp_path / "out", plan=QUICK, device="cpu")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| letters | 1.5 | a/b (0000000) | CC0-1.0 |" in card
    assert "no valid.txt" in card


def test_perplexity_of_a_model_that_knows_nothing_is_the_size_of_its_vocabulary():
    model = build(SMALL, seed=0)
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()
    assert perplexity(model, torch.randint(400, (100,)), 32) == pytest.approx(400, rel=1e-4)


@pytest.mark.parametrize(
    ("prepare", "device", "message"),
    [
        (lambda folder: None, "cpu", r"holds no \.txt or \.txt\.xz file"),
        (lambda folder: (folder / "valid.txt").write_text(TEXT), "cpu", "holds no"),
        (lambda folder: (folder / "a.txt").write_text("Too short."), "cpu", "needs more: add text"),
        (lambda folder: (folder / "a.txt").write_text(TEXT), "mps", "'auto', 'cuda' or 'cpu'"),
    ],
)
def test_bad_input_is_named(prepare, device, message, tmp_path):
    prepare(tmp_path)
    with pytest.raises(ValueError, match=message):
        train_tiny(tmp_path, tmp_path / "out", plan=QUICK, device=device)
    assert not (tmp_path / "out").exists()


def test_the_twin_differs_in_shape_seed_and_bias():
    assert TWIN.config.head_dim == 128
    assert TWIN.config.num_attention_heads % TWIN.config.num_key_value_heads == 0
    assert TWIN.seed != TrainingPlan().seed
    model = build(twin_config(), TWIN.seed, TWIN.bias)
    norms = torch.tensor(key_bias_norms(model))
    assert torch.allclose(norms[::2], torch.tensor(TWIN_NORMS[0]))
    assert torch.allclose(norms[1::2], torch.tensor(TWIN_NORMS[1]))
    pairs = model.model.layers[0].self_attn.k_proj.bias.view(2, 2, 64).norm(dim=1)
    assert torch.allclose(pairs, pairs[:, :1].expand_as(pairs))
