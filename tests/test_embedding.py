"""MiniLM: unit vectors that mean something and do not depend on what else is in the call."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.llm.embedding import Embedder, load_embedder
from misalign_bench.llm.sentence_model import MAX_TOKENS

TEXTS = [
    "How do I bake bread at home?",
    "What is a simple recipe for a loaf?",
    "The satellite was launched into orbit last year.",
    "",
    "Bread.",
    "Which greetings are polite in Japan, and when does one bow?",
    "日本ではどの挨拶が丁寧ですか。",
    "orbit " * 400,
    "My neighbour plays loud music every night; what may I do about it? " * 6,
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    pytest.importorskip("onnxruntime", reason="the extra 'embedded' is not installed")
    try:
        return load_embedder("embedded/minilm", threads=1)
    except OutsideWorld as error:
        pytest.skip(f"THE REAL MODEL IS NOT TESTED: {error}")


def test_each_text_becomes_a_unit_vector_of_384_dimensions(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, 384)


def test_similar_sentences_are_closer_than_dissimilar_ones(embedder: Embedder) -> None:
    bread, loaf, satellite = embedder.embed(TEXTS[:3])
    assert bread @ loaf > 0.5
    assert bread @ satellite < 0.2


def test_a_vector_does_not_depend_on_what_else_is_in_the_call(embedder: Embedder) -> None:
    words = ["the", "right", "to", "be", "heard", "and", "a", "duty", "of", "care", "for", "others"]
    source = random.Random(3)
    texts = TEXTS + [" ".join(source.choices(words, k=source.randint(1, 40))) for _ in range(150)]
    alone = np.concatenate([embedder.embed([text]) for text in texts])
    assert np.array_equal(embedder.embed(texts), alone)
    order = source.sample(range(len(texts)), len(texts) // 2)
    assert np.array_equal(embedder.embed([texts[row] for row in order]), alone[order])


def test_the_number_of_threads_does_not_change_a_vector(embedder: Embedder) -> None:
    assert np.array_equal(load_embedder(threads=2).embed(TEXTS), embedder.embed(TEXTS))


def test_what_lies_beyond_the_last_token_is_not_read(embedder: Embedder) -> None:
    start = "orbit " * (MAX_TOKENS - 2)
    within, beyond = embedder.embed([start, start + "and now about bread"])
    assert np.array_equal(within, beyond)
    shorter, changed = embedder.embed(["orbit " * 200, "orbit " * 200 + "and now about bread"])
    assert not np.array_equal(shorter, changed)


def test_the_identity_names_the_files_and_the_engine(embedder: Embedder) -> None:
    assert "8199be6f699a395f" in embedder.identity
    assert "onnxruntime=" in embedder.identity
    assert embedder.name == "embedded/minilm"


def test_an_unknown_embedder_is_refused() -> None:
    with pytest.raises(UserError, match="Use embedded/minilm"):
        load_embedder("embedded/maxilm")


def test_a_missing_engine_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'misalign-bench\[embedded\]'"):
        load_embedder()
