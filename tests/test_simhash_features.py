"""Features other than the default, and the compiled paths of text, against plain references."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from misalign_bench.simhash import fast
from misalign_bench.simhash.features import SEED, Features, parse_features
from misalign_bench.simhash.fingerprint import (
    CHUNK_CHARACTERS,
    fingerprint,
    fingerprint_normalised,
    normalise,
)
from misalign_bench.simhash.verify import Similarities, grams, overlap

MASK = (1 << 64) - 1
NAMES = ["char-4", "char-1", "char-3", "char-7-tf", "char-4-tf", "word-1", "word-2", "word-3-tf"]
TEXT = "Write a short poem about the sea, in the voice of a lighthouse keeper."
GOLDEN = {
    "char-3": 0x07A008C27B0DBC60,
    "char-5": 0x8A808D2BC6984E65,
    "char-4-tf": 0xF8E0E98D3F4B4837,
    "word-1": 0x0234413C097D4007,
    "word-2": 0x06CA8A087ED376F4,
    "word-3-tf": 0x2025ABE284074EEA,
}

needs_numba = pytest.mark.skipif(fast.numba() is None, reason="the extra 'fast' is not installed")
any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
ascii_text = st.text(st.characters(max_codepoint=127), max_size=60)
sentence = st.lists(st.sampled_from(["sea", "Sea", "poem", "of", "the", "a"]), max_size=9).map(
    " ".join
)
texts_of_all_kinds = st.lists(st.one_of(any_text, ascii_text, sentence), max_size=8)


def mix(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) & MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def fold(words: list[int]) -> int:
    state = SEED
    for word in words:
        state = mix(state ^ word)
    return state


def reference_hashes(text: str, features: Features) -> Counter[int]:
    normal = normalise(text)
    if not normal:
        return Counter()
    units: list[int]
    if features.unit == "char":
        units = [ord(letter) for letter in normal.ljust(features.size, "\0")]
    else:
        units = [
            mix(sum(mix((ord(letter) | at << 21) ^ SEED) for at, letter in enumerate(word)) & MASK)
            for word in normal.split(" ")
        ]
    windows = [units[k : k + features.size] for k in range(max(1, len(units) - features.size + 1))]
    if features.unit == "char":
        windows = [
            [sum(u << 21 * n for n, u in enumerate(one[k : k + 2])) for k in range(0, len(one), 2)]
            for one in windows
        ]
    counts = Counter(fold(window) for window in windows)
    return counts if features.weights == "tf" else Counter(counts.keys())


def reference_code(text: str, features: Features) -> int:
    hashes = reference_hashes(text, features)
    ones = [sum(count for value, count in hashes.items() if value >> b & 1) for b in range(64)]
    return sum(1 << b for b in range(64) if 2 * ones[b] > hashes.total())


@pytest.mark.parametrize("name", GOLDEN)
def test_a_code_of_other_features_is_the_same_everywhere(name: str) -> None:
    assert int(fingerprint([TEXT], name)[0]) == GOLDEN[name]


@given(texts_of_all_kinds, st.sampled_from(NAMES))
def test_any_unicode_text_has_the_code_that_its_features_give(texts: list[str], name: str) -> None:
    features = parse_features(name)
    assert fingerprint(texts, name).tolist() == [reference_code(text, features) for text in texts]


@needs_numba
@settings(deadline=None)
@given(texts_of_all_kinds, st.sampled_from(NAMES))
def test_kernels_give_the_codes_of_the_numpy_path(texts: list[str], name: str) -> None:
    plain = fingerprint(texts, name)
    normals = [normalise(text) for text in texts]
    with patch.object(fast, "WORTH_IT", 0):
        assert np.array_equal(fingerprint(texts, name), plain)
        assert np.array_equal(fingerprint_normalised(normals, name), plain)


@needs_numba
def test_kernels_give_the_codes_of_each_single_ascii_character() -> None:
    texts = [chr(point) + other for point in range(128) for other in ("", "a", "!?")]
    plain = fingerprint(texts)
    with patch.object(fast, "WORTH_IT", 0):
        assert np.array_equal(fingerprint(texts), plain)


@needs_numba
def test_kernels_take_huge_texts_and_batch_borders() -> None:
    texts = ["short one", "b" * 10 + "c d" * CHUNK_CHARACTERS, "", "é" * 300_000, "\ud800x", "x"]
    plain = [fingerprint(texts, name) for name in ("char-4", "word-2")]
    with patch.object(fast, "WORTH_IT", 0):
        for name, codes in zip(("char-4", "word-2"), plain, strict=True):
            assert np.array_equal(fingerprint(texts, name), codes)


def test_a_weight_counts_repetitions_only_if_asked() -> None:
    texts = ["sea sea sea poem", "poem sea", "sea sea poem"]
    by_set, by_count = fingerprint(texts, "word-1"), fingerprint(texts, "word-1-tf")
    assert len(set(by_set.tolist())) == 1
    assert by_count[0] == by_count[2] == fingerprint(["sea"], "word-1")[0]


def test_a_text_with_fewer_words_than_the_feature_has_one_feature() -> None:
    features = parse_features("word-3")
    assert int(fingerprint(["Two words"], "word-3")[0]) == next(
        iter(reference_hashes("two words", features))
    )


@given(st.sampled_from(NAMES))
def test_the_name_of_features_is_read_back(name: str) -> None:
    assert str(parse_features(name)) == name
    assert parse_features("char-4-set") == Features()


@pytest.mark.parametrize(
    "name", ["", "char", "char-", "char-0", "char-17", "word-4", "byte-4", "char-4-idf", "char-٣"]
)
def test_features_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="features are"):
        fingerprint(["a"], name)


@needs_numba
@settings(deadline=None)
@given(st.lists(st.one_of(any_text, ascii_text, sentence), min_size=1, max_size=6))
def test_kernels_give_the_similarities_of_the_sets(texts: list[str]) -> None:
    # Signs alone keep a zero character, which must not pass for filling.
    normals = [normalise(text) for text in [*texts, "?!", "?!\0\0", "🙂🙂🙂🙂"]]
    i, j = (axis.ravel() for axis in np.indices((len(normals), len(normals))))
    with patch.object(fast, "WORTH_IT", 0):
        scores = Similarities(normals).of(i, j)
    expected = [
        overlap(grams(normals[a]), grams(normals[b]))
        for a, b in zip(i.tolist(), j.tolist(), strict=True)
    ]
    assert scores.tolist() == expected


def test_without_numba_results_are_equal_and_said_once_to_be_slower(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"text number {number} of many" for number in range(fast.WORTH_IT)]
    here = fingerprint(texts)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(fast, "_said", set())
    with caplog.at_level(logging.WARNING):
        fingerprint(texts[:100])
        assert not caplog.messages
        assert np.array_equal(fingerprint(texts), here)
        assert np.array_equal(fingerprint(texts), here)
    assert len(caplog.messages) == 1
    assert "misalign-bench[fast]" in caplog.messages[0]


def test_kernel_modules_can_be_imported_without_numba() -> None:
    script = (
        "import sys; sys.modules['numba'] = None\n"
        "from misalign_bench.simhash import fingerprint_kernel, join_kernel, verify_kernel\n"
        "from misalign_bench.simhash.clusters import keep_first\n"
        "print(len(keep_first([f'{n} {n}' for n in range(12_000)], short_words=0).kept))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(ran.stdout) > 0


def test_a_small_input_does_not_load_numba() -> None:
    script = (
        "import sys\n"
        "from misalign_bench.simhash.clusters import components, keep_first\n"
        "keep_first(['a', 'b']); components(['a', 'b'])\n"
        "print('numba' in sys.modules)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert ran.stdout.strip() == "False"
