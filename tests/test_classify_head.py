"""A fitted head: what it learns, what it says about itself, its file, and the command."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misalign_bench.build.classify import fit_head as fitting
from misalign_bench.build.classify import softmax, terms
from misalign_bench.build.classify.classify import make_classifier
from misalign_bench.build.classify.fit_head import Labelled, fit_head
from misalign_bench.build.classify.fitted import FittedClassifier
from misalign_bench.build.classify.head import Head, load, save, spans
from misalign_bench.build.classify.softmax import Recipe
from misalign_bench.build.ingest import content_id
from misalign_bench.cli import fit as fit_command
from misalign_bench.cli.main import parser
from misalign_bench.config import ClassifySettings
from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.records import DIMENSIONS, Prompt
from misalign_bench.taxonomy.loader import taxonomy
from test_classify import Words

TOPICS = {
    "dance": "culture/Dance",
    "opera": "culture/Opera",
    "burglar": "safety/Financial crime/property crime/theft",
    "honest": "value/Honesty",
    "wealth": "value/Wealth",
}
FILLERS = ["please", "tell", "me", "now", "what", "one", "should", "know", "before", "the", "week"]
QUICK = Recipe(least_texts=2, landmarks=20, penalty=3e-5, epochs=8, batch=32, rate=0.05)


def made(count: int, seed: int = 0) -> list[tuple[str, tuple[str, ...]]]:
    """Prompts of which one word, or two, decide the labels; every fifth has none."""
    source = random.Random(seed)
    rows = []
    for number in range(count):
        words = source.choices(FILLERS, k=8)
        chosen = [] if number % 5 == 0 else source.sample(sorted(TOPICS), k=1 + number % 2)
        for word in chosen:
            words.insert(source.randrange(len(words)), word)
        rows.append((f"{' '.join(words)} {number}", tuple(TOPICS[word] for word in chosen)))
    return rows


def data_of(rows: Sequence[tuple[str, Sequence[str]]]) -> Labelled:
    texts = [text for text, _ in rows]
    ids = [content_id(text) for text in texts]
    return Labelled(ids, texts, [labels for _, labels in rows], ids, Words().embed(texts))


ABOUT = {"name": Words.name, "identity": Words.identity}


@pytest.fixture(scope="module")
def head() -> Head:
    return fit_head(data_of(made(400)), ABOUT, source="made.jsonl", recipe=QUICK, seed=3)


@pytest.fixture
def file(head: Head, tmp_path: Path) -> Path:
    path = tmp_path / "head.npz"
    save(head, path)
    return path


async def ask(classifier: FittedClassifier, texts: Sequence[str]) -> list[tuple[float, ...]]:
    found = await classifier.probabilities(
        [Prompt(content_id(text), text, "test", 1) for text in texts]
    )
    return [held for held in found if isinstance(held, tuple)]


# What it learns


async def test_a_head_labels_prompts_it_has_not_seen(head: Head) -> None:
    rows = made(100, seed=9)
    found = await ask(FittedClassifier(Words(), head), [text for text, _ in rows])
    truth = fitting.flags([labels for _, labels in rows])
    for dimension, span in spans().items():
        said = np.array(found)[:, span] >= head.delta[dimension]
        f1 = fitting.hits(said, truth[:, span])["f1"]
        assert f1 is not None
        assert f1 > 0.9


async def test_two_labels_of_one_dimension_are_both_found(head: Head) -> None:
    (found,) = await ask(FittedClassifier(Words(), head), ["tell me of dance and opera please"])
    held = dict(zip((domain.key for domain in taxonomy().domains), found, strict=True))
    assert held["culture/Dance"] >= head.delta["culture"]
    assert held["culture/Opera"] >= head.delta["culture"]
    assert held["culture/Radio"] < head.delta["culture"]


async def test_prompts_it_was_fitted_on_get_the_probabilities_that_are_kept(head: Head) -> None:
    text = made(400)[7][0]
    place = int(np.searchsorted(head.seen, int(content_id(text)[1:], 16)))
    kept = head.out_of_fold.copy()
    kept[place] = np.arange(111)
    (found,) = await ask(FittedClassifier(Words(), replace(head, out_of_fold=kept)), [text])
    assert found == tuple((np.arange(111) / 10_000).tolist())


def test_what_is_kept_was_not_learned_by_heart() -> None:
    rows = made(300)
    labels = [held for _, held in rows]
    random.Random(1).shuffle(labels)
    data = data_of(list(zip((text for text, _ in rows), labels, strict=True)))
    head = fit_head(data, ABOUT, recipe=replace(QUICK, epochs=30, penalty=0.0))
    truth = fitting.flags(labels)
    by_heart = head.scaled(
        np.stack(
            [
                head.scores(text, vector.astype(np.float64))
                for text, vector in zip(data.texts, data.vectors, strict=True)
            ]
        )
    )
    order = np.argsort(np.array([int(one[1:], 16) for one in data.ids], dtype=np.uint64))
    unseen = head.out_of_fold / 10_000
    culture = spans()["culture"]
    right = truth[:, culture].any(axis=1)
    at = truth[:, culture].argmax(axis=1)
    learned = (by_heart[:, culture].argmax(axis=1) == at)[right].mean()
    ranked = unseen[np.argsort(order)][:, culture].argmax(axis=1)
    assert learned > 0.9
    assert (ranked == at)[right].mean() < 0.75


async def test_probabilities_do_not_depend_on_the_other_prompts(head: Head) -> None:
    classifier = FittedClassifier(Words(), head)
    texts = [text for text, _ in made(30, seed=5)]
    together = await ask(classifier, texts)
    assert together == [(await ask(classifier, [text]))[0] for text in texts]
    assert all(0 <= chance <= 1 for held in together for chance in held)


def test_fitting_twice_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.npz" for name in "abc"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        save(fit_head(data_of(made(120)), ABOUT, recipe=QUICK, seed=seed), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes() != paths[2].read_bytes()


def test_near_duplicates_share_a_fold() -> None:
    clusters = [f"c{number // 3}" for number in range(300)]
    fold = fitting.folds(clusters, 4)
    assert all(len(set(fold[start : start + 3].tolist())) == 1 for start in range(0, 300, 3))
    assert set(fold.tolist()) == set(range(fitting.FOLDS))


def test_labels_that_mean_nothing_get_no_confident_probability() -> None:
    rows = made(300)
    labels = [held for _, held in rows]
    random.Random(1).shuffle(labels)
    mixed = list(zip((text for text, _ in rows), labels, strict=True))
    head = fit_head(data_of(mixed), ABOUT, recipe=QUICK)
    for dimension in DIMENSIONS:
        figures = head.manifest["out_of_fold"][dimension]
        assert figures["reliability"]["best_domain"]["expected_calibration_error"] < 0.12


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (made(40), "too few to fit on"),
        (
            [(text, [key for key in keys if "safety" not in key]) for text, keys in made(100)],
            "safety",
        ),
    ],
)
def test_what_cannot_be_fitted_is_said_before_anything_is_fitted(
    rows: list[tuple[str, Sequence[str]]], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        fit_head(data_of(rows), ABOUT, recipe=QUICK)


# Features and weights


def test_terms_are_words_and_pairs_whatever_their_case() -> None:
    assert terms.count("The cat, the CAT") == terms.count("the cat the cat")
    assert len(terms.count("one two three")) == 5
    assert terms.count("") == {}


def test_a_rarer_term_weighs_more_and_a_lone_one_nothing() -> None:
    texts = [terms.count(text) for text in ("a b", "a b", "a c", "a d")]
    held = terms.choose(texts, 2)
    columns, values = held.row(terms.count("a b c"))
    assert len(held.hashes) == 3
    assert np.square(values).sum() == pytest.approx(1.0)
    lone, common = terms.count("b"), terms.count("a")
    weight = {
        name: float(held.weights[np.searchsorted(held.hashes, next(iter(found)))])
        for name, found in (("rare", lone), ("common", common))
    }
    assert weight["rare"] > weight["common"]
    assert len(columns) == 3
    assert len(held.row(terms.count("zebra"))[0]) == 0


def test_the_fitted_weights_are_where_the_loss_is_flat() -> None:
    random_ = np.random.default_rng(0)
    vectors = random_.normal(size=(400, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = (vectors @ random_.normal(size=(6, 3))).argmax(axis=1)
    shares = np.eye(3, dtype=np.float32)[truth]
    rows = terms.Rows(np.zeros(401, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), 0)
    recipe = Recipe(dense_scale=1.0, penalty=1e-2, epochs=200, batch=400, rate=0.1)
    held = softmax.fit(vectors, rows, shares, [slice(0, 3)], recipe, 0)
    wrong = softmax.softmax(held.bias + vectors @ held.dense, [slice(0, 3)]) - shares
    slope = vectors.T @ wrong / 400 + 1e-2 * held.dense
    assert np.abs(slope).max() < 1e-4


# The file


def test_a_head_is_the_same_before_and_after_its_file(head: Head, file: Path) -> None:
    again = load(file)
    text, vector = "an opera of honest people", Words().embed(["an opera of honest people"])[0]
    first, second = (one.scores(text, vector.astype(np.float64)) for one in (head, again))
    assert np.array_equal(first, second)
    assert again.manifest == json.loads(json.dumps(head.manifest))
    assert again.delta == head.delta


def test_the_file_holds_the_training_manifest_and_no_text(head: Head, file: Path) -> None:
    manifest = load(file).manifest
    assert manifest["seed"] == 3
    assert manifest["data"]["source"] == "made.jsonl"
    assert manifest["data"]["prompts"] == 400
    assert len(manifest["data"]["sha256"]) == 64
    assert manifest["embedder"] == ABOUT
    assert set(manifest["versions"]) == {"misalign-bench", "numpy", "python"}
    assert set(manifest["out_of_fold"]) == set(DIMENSIONS)
    with zipfile.ZipFile(file) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
    assert b"please tell" not in everything


def test_the_hash_of_the_data_changes_with_a_label_and_not_with_the_order() -> None:
    rows = made(100)
    other = [(rows[0][0], ("culture/Radio",)), *rows[1:]]
    hashes = [
        fit_head(data_of(held), ABOUT, recipe=QUICK).manifest["data"]["sha256"]
        for held in (rows, rows[::-1], other)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_file_with_a_pickle_in_it_is_refused(tmp_path: Path, file: Path) -> None:
    with np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    path = tmp_path / "evil.npz"
    np.savez(path, **{**arrays, "bias": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(UserError, match="no head that can be used"):
        load(path)


def rewritten(file: Path, path: Path, **changes: Any) -> Path:
    with np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(path, **{**arrays, **changes})
    return path


def straight(temperature: float) -> dict[str, Any]:
    return {"kind": "temperature", "temperature": temperature, "shift": 0.0}


def curve(*found: float) -> dict[str, Any]:
    return {"kind": "isotonic", "given": [0.2, 0.8], "found": list(found)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 99}, "format 99"),
        ({"taxonomy": "another"}, "another taxonomy"),
        ({"scaling": {}}, "manifest cannot be read"),
        ({"delta": {"safety": 2, "value": 0.5, "culture": 0.5}}, "do not fit together"),
        ({"delta": {"safety": 10**400, "value": 0.5, "culture": 0.5}}, "manifest cannot be read"),
        ({"embedder": {"identity": True}}, "manifest cannot be read"),
        ({"scaling": dict.fromkeys(DIMENSIONS, straight(float("nan")))}, "manifest cannot be read"),
        ({"scaling": dict.fromkeys(DIMENSIONS, straight(0.0))}, "manifest cannot be read"),
        ({"scaling": dict.fromkeys(DIMENSIONS, curve(0.9, 0.1))}, "manifest cannot be read"),
        ({"scaling": dict.fromkeys(DIMENSIONS, curve(0.1, 1.2))}, "manifest cannot be read"),
    ],
)
def test_a_head_with_another_manifest_is_refused(
    head: Head, file: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    about = json.dumps({**head.manifest, **change}).encode()
    path = rewritten(file, tmp_path / "other.npz", manifest=np.frombuffer(about, np.uint8))
    with pytest.raises(UserError, match=said):
        load(path)


def test_arrays_that_do_not_fit_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not fit together"):
        load(rewritten(file, tmp_path / "a.npz", bias=np.zeros(3, np.float32)))
    with pytest.raises(UserError, match="not float16"):
        load(rewritten(file, tmp_path / "b.npz", dense=np.zeros((3, 3), np.float64)))


def test_arrays_whose_numbers_would_give_no_probability_are_refused(
    head: Head, file: Path, tmp_path: Path
) -> None:
    terms, weights = head.features.terms.hashes, head.features.terms.weights
    for changes in (
        {"term_weights": np.full_like(weights, np.nan)},
        {"term_weights": np.full_like(weights, 3e38)},
        {"terms": terms[::-1]},
        {"seen": head.seen[::-1]},
        {"out_of_fold": head.out_of_fold + np.uint16(10_001)},
    ):
        with pytest.raises(UserError, match="do not fit together"):
            load(rewritten(file, tmp_path / "other.npz", **changes))


def test_a_manifest_nested_without_end_is_refused(file: Path, tmp_path: Path) -> None:
    deep = np.frombuffer(b"[" * 100_000, np.uint8)
    with pytest.raises(UserError, match="manifest cannot be read"):
        load(rewritten(file, tmp_path / "deep.npz", manifest=deep))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip", b"\x93NUMPY", b"text"])
def test_what_is_no_archive_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "head.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no head that can be used") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_head_that_is_not_there_says_how_to_fit_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file.*misalign-bench fit"):
        load(tmp_path / "head.npz")


def test_a_head_of_another_embedding_model_is_refused(head: Head) -> None:
    class Other(Words):
        identity = "another/model"

    with pytest.raises(UserError, match="another model"):
        FittedClassifier(Other(), head)


def test_a_head_of_another_engine_version_is_taken(head: Head) -> None:
    class Newer(Words):
        identity = f"{Words.identity} onnxruntime=2.0"

    assert FittedClassifier(Newer(), head).describe()["identity"] == Newer.identity


# In the interface


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedding model is the one without weights."""
    for place in ("misalign_bench.build.classify.fitted", "misalign_bench.llm.embedding"):
        monkeypatch.setattr(f"{place}.load_embedder", lambda *_, **__: Words())
    monkeypatch.setattr("misalign_bench.cli.running.fetch_weights", lambda *_: None)


def test_the_description_shows_figures_and_reliability(head: Head) -> None:
    said = FittedClassifier(Words(), head, "abc").describe()
    assert (said["method"], said["head"]["sha256"]) == ("embedding", "abc")
    for dimension in DIMENSIONS:
        bars = said["reliability"][dimension]["best_domain"]["bins"]
        assert sum(bar["count"] for bar in bars) == 400
    assert json.loads(json.dumps(said, allow_nan=False)) == said


@pytest.mark.usefixtures("words")
def test_a_configuration_with_a_head_must_say_its_delta(head: Head, file: Path) -> None:
    model = ModelSettings(model="embedded/minilm")
    with pytest.raises(UserError, match=r"delta: \{safety: 0\.\d+, value: 0\.\d+, culture"):
        make_classifier(ClassifySettings(method="embedding", head=str(file)), model)
    settings = ClassifySettings(method="embedding", head=str(file), delta=head.delta)
    assert make_classifier(settings, model).describe()["fitted_delta"] == head.delta


def test_a_head_belongs_to_methods_that_embed() -> None:
    with pytest.raises(ValueError, match="uses no head"):
        ClassifySettings(method="joint", head="head.npz")


# The command


def command(*arguments: str) -> int:
    asked = parser(("fit", "classify")).parse_args(list(arguments))
    return int(asked.run(asked))


@pytest.fixture
def labelled_file(tmp_path: Path) -> Path:
    path = tmp_path / "labelled.jsonl"
    rows = [{"prompt": text, "labels": list(labels)} for text, labels in made(200)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.usefixtures("words")
def test_the_command_fits_a_head_that_classify_uses(
    labelled_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, labels = tmp_path / "head.npz", tmp_path / "labels.jsonl"
    any_language = ["--any-language", "--quiet"]
    assert command("fit", str(labelled_file), "--out", str(out), *any_language, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["data"]["prompts"] == 200
    assert said["data"]["source"] == "labelled.jsonl"
    new = tmp_path / "new.txt"
    new.write_text("please tell me what one should know of dance\n", encoding="utf-8")
    asked = ["classify", str(new), "--method", "embedding", "--head", str(out), "--json"]
    assert command(*asked, *any_language) == 0
    found = json.loads(capsys.readouterr().out)
    assert "culture/Dance" in found["rows"][0]["labels"]
    assert found["classifier"]["delta"] == said["delta"]
    assert not labels.exists()


@pytest.mark.usefixtures("words")
def test_the_command_prints_a_row_for_each_dimension(
    labelled_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "head.npz"
    assert command("fit", str(labelled_file), "--out", str(out), "--any-language", "--quiet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["out of fold", *DIMENSIONS]


@pytest.mark.parametrize(
    ("rows", "out", "said"),
    [
        ([{"prompt": "How are you?"}], "head.npz", "came without labels"),
        ([{"prompt": "How are you?", "labels": []}], "head.pickle", "Use .npz"),
        ([{"prompt": "How are you?", "labels": ["culture/Knitting"]}], "head.npz", "Knitting"),
    ],
)
def test_the_command_refuses_what_it_cannot_use(
    tmp_path: Path, rows: list[dict[str, Any]], out: str, said: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(UserError, match=said):
        command("fit", str(path), "--out", str(tmp_path / out), "--quiet", "--any-language")
    assert fit_command.NAME == "fit"
    assert not (tmp_path / out).exists()
