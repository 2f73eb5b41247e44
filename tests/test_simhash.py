"""The SimHash library and ``misalign-bench dedup``, against plain references."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from misalign_bench.build.readers import read_table
from misalign_bench.cli import dedup
from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.simhash.clusters import Drop, components, keep_first
from misalign_bench.simhash.features import SEED
from misalign_bench.simhash.fingerprint import CHUNK_CHARACTERS, fingerprint, normalise
from misalign_bench.simhash.index import DuplicateIndex, Match
from misalign_bench.simhash.pairs import TooManyPairs, near_pairs
from misalign_bench.simhash.verify import jaccard, verify_pairs

PUBLISHED = Path(__file__).parents[1] / ".." / "shared" / "data" / "savacu_classified_prompts.csv"
MASK = (1 << 64) - 1

GOLDEN = {
    "": 0x0000000000000000,
    "a": 0x31A56CFFD95A043B,
    "?": 0xCA8EEFE45AE70034,
    "abc": 0x118287C0E1520E08,
    "abcd": 0xADBD85CF17A5EC7D,
    "How do I boil an egg?": 0xE9E0855D05AA1B04,
    "Wie heißt die Straße in ÅNGSTRÖM?": 0xDFA50CB80369785C,
    "人工智能会取代教师吗?": 0xDBCF7029DC13FA10,
    "🙂🚀": 0x98A40E69C2A79B3A,
    "Write a short poem about the sea, in the voice of a lighthouse keeper.": 0xF0E0E98D3F4B4837,
}

any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
sentence = st.lists(
    st.sampled_from(["ocean", "winter", "poem", "Poem!", "keeper", "of", "the"]), max_size=14
).map(" ".join)
edited = st.tuples(
    st.sampled_from(
        [
            "please write a short poem about the ocean in winter for my class",
            "please write a short story about the ocean in winter for my class",
            "list the main reasons why people leave a job after the first year",
        ]
    ),
    st.integers(0, 60),
    st.sampled_from(["", "x", " word ", "?", "E"]),
).map(lambda edit: edit[0][: edit[1]] + edit[2] + edit[0][edit[1] :])
stream = st.lists(st.one_of(edited, edited, edited, sentence, any_text), max_size=14)
tau = st.one_of(st.just(10), st.integers(0, 32))
threshold = st.one_of(st.none(), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
short_words = st.sampled_from([0, 8])


def mix(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) & MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def reference_grams(text: str) -> set[str]:
    normal = normalise(text)
    return {normal[k : k + 4] for k in range(max(1, len(normal) - 3))} if normal else set()


def reference_code(text: str) -> int:
    hashes = set()
    for gram in reference_grams(text):
        a, b, c, d = (ord(letter) for letter in gram.ljust(4, "\0"))
        hashes.add(mix(mix((a | b << 21) ^ SEED) ^ (c | d << 21)))
    ones = [sum(value >> bit & 1 for value in hashes) for bit in range(64)]
    return sum(1 << bit for bit in range(64) if 2 * ones[bit] > len(hashes))


def reference_jaccard(a: str, b: str) -> float:
    one, other = reference_grams(a), reference_grams(b)
    return len(one & other) / len(one | other) if one | other else 1.0


def reference_match(
    a: str, b: str, tau: int, verify: float | None, short: int
) -> tuple[int, float, str] | None:
    """Say how one text duplicates another: (distance, similarity, reason)."""
    if normalise(a) == normalise(b):
        return 0, 1.0, "identical"
    if min(len(normalise(a).split()), len(normalise(b).split())) < short:
        return None
    distance = bin(reference_code(a) ^ reference_code(b)).count("1")
    if distance > tau or (verify is not None and reference_jaccard(a, b) < verify):
        return None
    return distance, reference_jaccard(a, b), "near"


def reference_keep_first(
    texts: Sequence[str], tau: int, verify: float | None, short: int
) -> tuple[list[int], list[Drop]]:
    kept: list[int] = []
    dropped: list[Drop] = []
    for index, text in enumerate(texts):
        matches = [
            (reason != "identical", distance, of, score)
            for of in kept
            if (found := reference_match(text, texts[of], tau, verify, short))
            for distance, score, reason in [found]
        ]
        if matches:
            near, distance, of, score = min(matches)
            dropped.append(Drop(index, of, distance, score, "near" if near else "identical"))
        else:
            kept.append(index)
    return kept, dropped


def reference_components(
    texts: Sequence[str], tau: int, verify: float | None, short: int
) -> list[int]:
    labels = list(range(len(texts)))
    for j, text in enumerate(texts):
        for i in range(j):
            if reference_match(text, texts[i], tau, verify, short):
                low, high = sorted((labels[i], labels[j]))
                labels = [low if label == high else label for label in labels]
    return labels


def brute_force(codes: Sequence[int], tau: int) -> set[tuple[int, int, int]]:
    return {
        (i, j, distance)
        for j in range(len(codes))
        for i in range(j)
        if (distance := bin(codes[i] ^ codes[j]).count("1")) <= tau
    }


def expand(codes: Sequence[int], found: set[tuple[int, int, int]]) -> set[tuple[int, int, int]]:
    """Give every position the near pairs of the first position of its code."""
    first = {code: codes.index(code) for code in codes}
    near = {(i, j): distance for i, j, distance in found}
    pairs = set()
    for j in range(len(codes)):
        for i in range(j):
            ends = sorted((first[codes[i]], first[codes[j]]))
            distance = 0 if ends[0] == ends[1] else near.get((ends[0], ends[1]))
            if distance is not None:
                pairs.add((i, j, distance))
    return pairs


@pytest.mark.parametrize("text", GOLDEN)
def test_a_code_is_the_same_everywhere(text: str) -> None:
    assert int(fingerprint([text])[0]) == GOLDEN[text]


@given(st.lists(any_text, max_size=12))
def test_any_unicode_text_has_the_code_that_the_rules_give(texts: list[str]) -> None:
    codes = fingerprint(texts)
    assert codes.dtype == np.uint64
    assert codes.tolist() == [reference_code(text) for text in texts]


@given(any_text)
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(any_text)
def test_case_space_and_signs_around_do_not_count(text: str) -> None:
    assert normalise(f"  (A {text}?! ") == normalise(f"a\t{text}")


def test_a_text_of_signs_is_not_the_empty_text() -> None:
    assert jaccard("🙂", "🚀") == 0.0
    assert keep_first(["🙂", "🚀", "", "  ", "🙂 "]).kept == [0, 1, 2]


def test_a_batch_border_changes_no_code() -> None:
    texts = ["short one", "b" * 10 + "c" * CHUNK_CHARACTERS, "", "another one", "x"]
    together = fingerprint(texts).tolist()
    assert together == [int(fingerprint([text])[0]) for text in texts]


def test_a_single_string_is_refused_as_a_sequence_of_texts() -> None:
    with pytest.raises(TypeError, match="not one text"):
        fingerprint("abc")


@st.composite
def clustered_codes(draw: st.DrawFn) -> list[int]:
    centres = draw(st.lists(st.integers(0, MASK), min_size=1, max_size=4))
    flips = st.lists(st.integers(0, 63), max_size=20)
    codes = []
    for _ in range(draw(st.integers(0, 24))):
        code = draw(st.sampled_from(centres))
        for bit in draw(flips):
            code ^= 1 << bit
        codes.append(code)
    return codes


@given(
    st.one_of(clustered_codes(), st.lists(st.integers(0, MASK), max_size=24)), st.integers(0, 32)
)
def test_near_pairs_say_what_brute_force_says(codes: list[int], tau: int) -> None:
    pairs = near_pairs(np.array(codes, dtype=np.uint64), tau)
    listed = list(zip(*(column.tolist() for column in pairs), strict=True))
    assert listed == sorted(set(listed))
    assert all(i < j for i, j, _ in listed)
    assert set(listed) <= brute_force(codes, tau)
    assert expand(codes, set(listed)) == brute_force(codes, tau)


@pytest.mark.parametrize("tau", [0, 1, 10, 20, 32])
def test_near_pairs_over_many_tiles_equal_brute_force(tau: int) -> None:
    random = np.random.default_rng(7)
    centres = random.integers(0, 2**64, 40, dtype=np.uint64)
    flips = np.bitwise_or.reduce(
        np.uint64(1) << random.integers(0, 64, (2500, 8), dtype=np.uint64), axis=1
    )
    codes = np.unique(centres[random.integers(0, 40, 2500)] ^ flips)
    random.shuffle(codes)
    bits = np.unpackbits(codes.view(np.uint8).reshape(-1, 8), axis=1).astype(np.int32)
    apart = bits @ (1 - bits.T)
    apart = apart + apart.T
    i, j = np.nonzero(np.triu(apart <= tau, k=1))
    pairs = near_pairs(codes, tau)
    assert len(codes) > 2048
    assert np.array_equal(pairs.i, i)
    assert np.array_equal(pairs.j, j)
    assert np.array_equal(pairs.distance, apart[i, j])


def test_an_old_numpy_finds_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(3).integers(0, 2**12, 500, dtype=np.uint64)
    here = near_pairs(codes, 3)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    there = near_pairs(codes, 3)
    assert len(here.i) > 0
    assert [column.tolist() for column in here] == [column.tolist() for column in there]


def test_a_million_copies_of_a_code_are_pairs_with_the_first() -> None:
    pairs = near_pairs(np.full(1_000_000, 5, dtype=np.uint64), 10)
    assert np.array_equal(pairs.j, np.arange(1, 1_000_000))
    assert not pairs.i.any()
    assert not pairs.distance.any()


def test_more_pairs_than_the_limit_are_refused() -> None:
    codes = np.arange(100, dtype=np.uint64)
    with pytest.raises(TooManyPairs, match="smaller tau"):
        near_pairs(codes, 32, limit=100 * 99 // 2 - 1)
    assert len(near_pairs(codes, 32, limit=100 * 99 // 2).i) == 100 * 99 // 2


@pytest.mark.parametrize("tau", [-1, 33])
def test_a_tau_out_of_range_is_refused(tau: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 32"):
        near_pairs(np.zeros(2, dtype=np.uint64), tau)
    with pytest.raises(ValueError, match="between 0 and 32"):
        keep_first(["a"], tau)


def test_a_verification_threshold_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        DuplicateIndex(verify=1.1)


@given(any_text, any_text)
def test_jaccard_is_that_of_the_sets(a: str, b: str) -> None:
    assert jaccard(a, b) == reference_jaccard(a, b)
    assert jaccard(a, b) == jaccard(b, a)
    assert jaccard(a, a) == 1.0


def test_a_pair_exactly_at_the_threshold_is_confirmed() -> None:
    texts = ["abcde", "abcdx", "unlike"]
    i, j = np.array([0, 0]), np.array([1, 2])
    assert verify_pairs(texts, i, j, 1 / 3).tolist() == [True, False]
    assert verify_pairs(texts, i, j, 0.34).tolist() == [False, False]


@settings(deadline=None)
@given(stream, tau, threshold, short_words)
def test_keep_first_is_the_plain_double_loop(
    texts: list[str], tau: int, verify: float | None, short: int
) -> None:
    done = keep_first(texts, tau, verify, short_words=short)
    kept, dropped = reference_keep_first(texts, tau, verify, short)
    assert done.kept == kept
    assert done.dropped == dropped
    assert done.verified_out == sum(
        any(reference_match(texts[k], texts[of], tau, None, short) for of in kept if of < k)
        for k in kept
    )


@settings(deadline=None)
@given(stream, tau, threshold, short_words, st.sampled_from(["char-4", "word-2-tf"]))
def test_an_index_decides_as_keep_first(
    texts: list[str], tau: int, verify: float | None, short: int, features: str
) -> None:
    index = DuplicateIndex(tau, verify, short_words=short, features=features)
    matches = [(index.find(text), index.add(text)) for text in texts]
    assert all(found == added for found, added in matches)
    done = keep_first(texts, tau, verify, short_words=short, features=features)
    assert len(index) == len(done.kept)
    assert [added for _, added in matches if added] == [
        Match(drop.of, drop.distance, drop.jaccard) for drop in done.dropped
    ]
    again = DuplicateIndex(tau, verify, short_words=short, features=features)
    assert again.add_all(texts) == [added for _, added in matches]


@settings(deadline=None)
@given(stream, tau, threshold, short_words)
def test_components_join_exactly_what_a_chain_of_duplicates_connects(
    texts: list[str], tau: int, verify: float | None, short: int
) -> None:
    labels = components(texts, tau, verify, short_words=short)
    assert labels.dtype == np.int64
    assert labels.tolist() == reference_components(texts, tau, verify, short)


def test_a_text_near_only_a_dropped_text_is_kept() -> None:
    texts = [
        "please write a short poem about the ocean in winter for my class today",
        "please write a short poem about the ocean in summer for my class today",
        "please write a short song about the ocean in summer for my group today",
    ]
    assert jaccard(texts[0], texts[1]) > 0.7 > jaccard(texts[0], texts[2])
    assert jaccard(texts[1], texts[2]) > 0.6
    assert keep_first(texts, 32, 0.6).kept == [0, 2]
    assert components(texts, 32, 0.6).tolist() == [0, 0, 0]


def test_short_texts_are_dropped_only_when_equal() -> None:
    texts = ["What is a tax?", "What is a tab?", "what is a TAX"]
    assert keep_first(texts, 32, None).kept == [0, 1]
    assert keep_first(texts, 32, None, short_words=0).kept == [0]


def test_verification_saves_texts_and_counts_them() -> None:
    texts = [
        "please write a short poem about the ocean in winter for my class today",
        "list the main reasons why people leave their job after the first year",
    ]
    assert keep_first(texts, 32, 0.7).verified_out == 1
    assert keep_first(texts, 32, 0.7).kept == [0, 1]


def test_copies_are_proposed_once_each() -> None:
    text = "please write a short poem about the ocean in winter"
    done = keep_first([text, text + "!", "tiny", "Tiny", text])
    assert (done.pairs, done.by_reason) == (3, {"identical": 3, "near": 0})
    assert done.by_distance == {0: 3}


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published prompts are not here")
@pytest.mark.parametrize(
    ("verify", "short", "drops"), [(None, 0, 552), (0.7, 0, 319), (0.7, 8, 308)]
)
def test_the_published_prompts_lose_a_known_number(
    verify: float | None, short: int, drops: int
) -> None:
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        prompts = [row["prompt"] for row in csv.DictReader(file)]
    assert len(keep_first(prompts, 10, verify, short_words=short).dropped) == drops


# --- the command


ROWS = [
    {"id": "1", "prompt": "Please write a short poem about the ocean in winter"},
    {"id": "2", "prompt": "please WRITE a short poem, about the ocean in winter!"},
    {"id": "3", "prompt": "What is a tax?"},
    {"id": "4", "prompt": "what is a tax"},
    {"id": "5", "prompt": "What is a tab?"},
]


def run_dedup(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    dedup.add_arguments(parser)
    return dedup.run(parser.parse_args([str(argument) for argument in arguments]))


def write_rows(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["id", "prompt"])
            writer.writeheader()
            writer.writerows(ROWS)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_text("".join(row["prompt"] + "\n" for row in ROWS), encoding="utf-8")


@pytest.mark.parametrize("source", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("target", [".csv", ".jsonl", ".parquet"])
def test_every_kind_of_file_is_read_and_written(source: str, target: str, tmp_path: Path) -> None:
    write_rows(tmp_path / f"in{source}")
    out = tmp_path / "new" / f"out{target}"
    assert run_dedup(tmp_path / f"in{source}", "--out", out) == 0
    assert read_table(out, "prompt").rows == [ROWS[0], ROWS[2], ROWS[4]]
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_plain_text_is_one_text_a_line(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.txt")
    assert run_dedup(tmp_path / "in.txt", "--out", tmp_path / "out.txt") == 0
    lines = (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [ROWS[index]["prompt"] for index in (0, 2, 4)]


def test_parquet_keeps_its_schema(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"prompt": ["a", "A", "b"], "n": pa.array([1, 2, None], pa.int16())})
    pq.write_table(table, tmp_path / "in.parquet")
    run_dedup(tmp_path / "in.parquet", "--out", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").equals(table.take([0, 2]))


def test_json_counts_what_was_kept_and_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "in.csv")
    run_dedup(tmp_path / "in.csv", "--out", tmp_path / "out.csv", "--json")
    assert json.loads(capsys.readouterr().out) == {
        "kept": 3,
        "dropped": 2,
        "pairs": 2,
        "by_distance": {"0": 2},
        "by_reason": {"identical": 2, "near": 0},
        "verified_out": 0,
    }


def test_without_verification_and_short_words_the_codes_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "in.csv")
    loose = ("--no-verify", "--tau", "32", "--short-words", "0")
    run_dedup(tmp_path / "in.csv", "--out", tmp_path / "out.csv", *loose)
    assert "1 near" in capsys.readouterr().out


def test_other_features_can_be_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["one two three four five six seven eight", "eight seven six five four three two one"]
    (tmp_path / "in.txt").write_text("\n".join(texts), encoding="utf-8")
    for features, dropped in (("char-4", 0), ("word-1", 1), ("word-2-tf", 0)):
        run_dedup(
            *(tmp_path / "in.txt", "--out", tmp_path / "out.txt", "--no-verify"),
            *("--features", features, "--keep", "first", "--json"),
        )
        assert json.loads(capsys.readouterr().out)["dropped"] == dropped


def test_features_that_are_none_are_the_callers_to_mend(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.csv")
    out = tmp_path / "out.csv"
    with pytest.raises(UserError, match=r"--features.*named like char-4"):
        run_dedup(tmp_path / "in.csv", "--out", out, "--features", "bytes")
    assert not out.exists()


def test_another_text_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"q": "a"}\n{"q": "A!"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"has no column 'prompt' \(columns: q\).*--text-column"):
        run_dedup(tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl")
    run_dedup(tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl", "--text-column", "q")
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == '{"q": "a"}\n'


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("in.jsonl", b'{"prompt": "a"}\nnot json\n', "line 2 is not JSON"),
        ("in.jsonl", b"[1]\n", "line 1 is not a JSON object"),
        ("in.jsonl", b'{"prompt": null}\n', "row 1 has no text"),
        ("in.csv", b"prompt\na,b\n", "line 2 has more fields"),
        ("in.csv", b"prompt\n\xff\n", "is not UTF-8"),
        ("in.csv", b'prompt\n"open\n', "unexpected end"),
        ("in.parquet", b"PAR0", "is not Parquet"),
        ("in.xlsx", b"", "no known kind"),
    ],
)
def test_a_broken_file_is_named_in_one_line(
    name: str, content: bytes, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=complaint) as refusal:
        run_dedup(tmp_path / name, "--out", tmp_path / "out.csv")
    assert refusal.value.exit_code == 2
    assert name in str(refusal.value)
    assert not (tmp_path / "out.csv").exists()


def test_a_missing_file_is_the_callers_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        run_dedup(tmp_path / "absent.csv", "--out", tmp_path / "out.csv")


def test_a_place_that_cannot_be_written_is_the_outside_world(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.csv")
    with pytest.raises(OutsideWorld, match="cannot be written"):
        run_dedup(tmp_path / "in.csv", "--out", tmp_path / "in.csv" / "out.csv")


def test_an_empty_file_gives_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"")
    assert run_dedup(tmp_path / "in.csv", "--out", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_bytes() == b""


def test_a_threshold_out_of_range_is_the_callers_to_mend(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.csv")
    with pytest.raises(UserError, match="between 0 and 32"):
        run_dedup(tmp_path / "in.csv", "--out", tmp_path / "out.csv", "--tau", "64")


def test_a_text_with_line_breaks_does_not_become_plain_text(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "a\\nb"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="more than one line"):
        run_dedup(tmp_path / "in.jsonl", "--out", tmp_path / "out.txt")
    assert not list(tmp_path.glob("*out*"))


def test_a_lone_surrogate_survives_json_lines_and_is_refused_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "\\ud800 a"}\n', encoding="utf-8")
    run_dedup(tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl")
    assert read_table(tmp_path / "out.jsonl", "prompt").rows == [{"prompt": "\ud800 a"}]
    for kind in ("csv", "txt", "parquet"):
        with pytest.raises(UserError, match="lone surrogate"):
            run_dedup(tmp_path / "in.jsonl", "--out", tmp_path / f"out.{kind}")
