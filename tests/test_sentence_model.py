"""A folder with a sentence model: read as its settings say, refused where it does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from builds import CONFIGURATION, data_set
from misalign_bench.build.classify.embedding import labelled_prompts
from misalign_bench.cli.main import main
from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.llm.embedding import is_embedder, load_embedder
from misalign_bench.llm.sentence_model import read_folder

TEXTS = ["How do I bake bread at home?", "", "Which greetings are polite in Japan?", "Bread."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """MiniLM laid out as sentence-transformers publishes its models."""
    pytest.importorskip("onnxruntime", reason="the extra 'embedded' is not installed")
    from misalign_bench.llm import weights

    try:
        network = weights.get("minilm")
    except OutsideWorld as error:
        pytest.skip(f"THE REAL MODEL IS NOT TESTED: {error}")
    made = tmp_path / "my+model"
    (made / "onnx").mkdir(parents=True)
    shutil.copy(network, made / "onnx" / "model.onnx")
    shutil.copy(weights.file_path("minilm", "tokenizer.json"), made / "tokenizer.json")
    write(made, "modules.json", [{"type": "sentence_transformers.models.Transformer"}])
    pools(made, pooling_mode_mean_tokens=True, pooling_mode_cls_token=False)
    write(made, "sentence_bert_config.json", {"max_seq_length": 256})
    return made


def write(folder: Path, name: str, value: object) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def pools(folder: Path, **settings: object) -> None:
    write(folder, "1_Pooling/config.json", {"word_embedding_dimension": 384, **settings})


def test_a_folder_gives_the_vectors_of_the_model_in_it(folder: Path) -> None:
    ours = load_embedder(f"onnx/{folder}", threads=1)
    assert np.array_equal(ours.embed(TEXTS), load_embedder(threads=1).embed(TEXTS))
    assert ours.name == "onnx/my+model"


def test_the_identity_follows_the_bytes_and_the_settings(folder: Path) -> None:
    first = load_embedder(f"onnx/{folder}").identity
    assert str(folder) not in first
    write(folder, "sentence_bert_config.json", {"max_seq_length": 128})
    second = load_embedder(f"onnx/{folder}").identity
    pools(folder, pooling_mode_cls_token=True)
    assert len({first, second, load_embedder(f"onnx/{folder}").identity}) == 3


def test_the_first_token_may_stand_for_the_text(folder: Path) -> None:
    mean = load_embedder(f"onnx/{folder}").embed(TEXTS)
    pools(folder, pooling_mode="cls")
    first = load_embedder(f"onnx/{folder}").embed(TEXTS)
    assert np.allclose(np.linalg.norm(first, axis=1), 1.0, atol=1e-6)
    assert not np.allclose(first, mean, atol=0.01)


def test_no_more_tokens_are_read_than_the_settings_say(folder: Path) -> None:
    write(folder, "sentence_bert_config.json", {"max_seq_length": 5})
    one, two = load_embedder(f"onnx/{folder}").embed(["red green blue and", "red green blue or"])
    assert np.array_equal(one, two)


def test_joined_vectors_have_length_one_and_the_mean_cosine(folder: Path) -> None:
    pools(folder, pooling_mode="cls")
    name = f"embedded/minilm+onnx/{folder}"
    joined = load_embedder(name)
    vectors = joined.embed(TEXTS)
    parts = [load_embedder(part).embed(TEXTS) for part in ("embedded/minilm", f"onnx/{folder}")]
    assert vectors.shape == (len(TEXTS), 768)
    assert np.allclose(vectors @ vectors.T, sum(one @ one.T for one in parts) / 2, atol=1e-6)
    assert joined.name == "embedded/minilm+onnx/my+model"
    assert joined.identity.count("sha256=") == 2
    assert joined.identity.count("onnxruntime=") == 1


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("embedded/minilm", True),
        ("onnx/a", True),
        ("embedded/minilm+onnx/a", True),
        ("embedded/qwen2.5-coder-0.5b", False),
        ("openai/gpt", False),
        ("embedded/minilm+embedded/smollm2-135m", False),
    ],
)
def test_names_of_embedders_are_told_from_names_of_chat_models(name: str, is_one: bool) -> None:
    assert is_embedder(name) is is_one


def test_a_data_set_names_no_path_of_its_embedder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text("prompt\nHow do I greet an elder politely in Japan?\n")
    simulated = {"generators": ["simulated/generator"], "evaluator": "simulated/judge"}
    table = {**CONFIGURATION, "classify": {"method": "embedding", "delta": 0.1}}
    config = tmp_path / "run.yaml"
    config.write_text(
        yaml.safe_dump({**table, "roles": simulated | {"classifier": "onnx/my+model"}})
    )
    out = tmp_path / "savacu"
    assert main(["build", str(config), "--out", str(out), "--quiet"]) == 0
    files = data_set(out)
    assert b"onnx/my+model" in files["README.md"]
    assert not any(str(tmp_path).encode() in held for held in files.values())


def test_an_embedder_is_refused_where_an_answer_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps({"prompt": "a", "response": "b", "misaligned": True}) + "\n")
    command = ["bench", str(items), "--target", "onnx/folder", "--out", str(tmp_path / "out")]
    assert main([*command, "--quiet"]) == 2
    assert "onnx/folder: an embedding model cannot answer" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["tokenizer.json", "onnx/model.onnx"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(UserError, match=missing.rpartition("/")[2]):
        read_folder(folder)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "Dense"),
        ("modules.json", {"type": "no list"}, "cannot be read"),
        ("modules.json", ["no table"], "no table"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "max_tokens"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "lasttoken"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
            "mean_tokens and pooling_mode_max_tokens",
        ),
    ],
)
def test_what_is_not_supported_is_refused(
    folder: Path, name: str, value: object, says: str
) -> None:
    write(folder, name, value)
    with pytest.raises(UserError, match=says):
        read_folder(folder)


def test_a_file_that_is_no_network_is_refused_in_one_line(folder: Path) -> None:
    (folder / "onnx" / "model.onnx").write_bytes(b"not a network")
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        load_embedder(f"onnx/{folder}")
    assert "\n" not in str(caught.value)


def test_a_fitted_head_keeps_to_the_embedder_it_was_fitted_with(
    folder: Path, tmp_path: Path
) -> None:
    rows = [{"prompt": text, "labels": list(keys)} for text, keys in labelled_prompts()]
    table = tmp_path / "labelled.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    head, out = tmp_path / "head.npz", tmp_path / "labels.csv"
    joined = f"embedded/minilm+onnx/{folder}"
    quiet = ["--quiet"]
    assert main(["fit", str(table), "--model", joined, "--out", str(head), *quiet]) == 0
    classify = ["classify", str(table), "--head", str(head), "--out", str(out), *quiet]
    assert main([*classify, "--model", joined]) == 0
    assert out.read_text().count("\n") > 100
    assert main(classify) == 2
