"""Cascades, thresholds per domain, calibration and reliability."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from misalign_bench.build.classify import scaling
from misalign_bench.build.classify.cascade import CascadeClassifier
from misalign_bench.build.classify.classify import (
    Classified,
    classify,
    labelled,
    make_classifier,
    thresholds,
    with_one_label,
)
from misalign_bench.build.classify.reliability import diagrams, reliability
from misalign_bench.config import ClassifySettings
from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.records import DIMENSIONS, Dropped, Pending, Prompt, Reason
from misalign_bench.taxonomy.loader import taxonomy
from test_classify import KEYS, Fixed, Words, client_of, messages_asked, prompt, spread

# Cascades


class Counting(Fixed):
    """Remembers what it was asked."""

    def __init__(self, *answers: Classified) -> None:
        super().__init__(*answers)
        self.asked: list[str] = []

    async def probabilities(self, prompts: Sequence[Prompt]) -> list[Classified]:
        self.asked += [one.id for one in prompts]
        return await super().probabilities(prompts)

    def describe(self) -> dict[str, Any]:
        return {"method": "fixed", "model": "test/fixed"}


SURE, UNSURE = spread(**{KEYS[0]: 0.95, KEYS[1]: 0.1}), spread(**{KEYS[0]: 0.5})
ANSWER = spread(**{KEYS[5]: 1.0})


async def test_only_what_the_first_is_unsure_of_goes_to_the_second() -> None:
    first, then = Fixed(SURE, UNSURE, SURE), Counting(ANSWER)
    cascade = CascadeClassifier(first, then, (0.1, 0.9))
    found = await cascade.probabilities([prompt("a", 1), prompt("b", 2), prompt("c", 3)])
    assert found == [SURE, ANSWER, SURE]
    assert then.asked == ["p2"]


async def test_the_description_counts_what_went_on() -> None:
    cascade = CascadeClassifier(Fixed(SURE, UNSURE), Counting(ANSWER), (0.1, 0.9))
    await cascade.probabilities([prompt("a", 1), prompt("b", 2)])
    said = cascade.describe()
    assert (said["method"], said["model"]) == ("cascade", "test/fixed")
    assert (said["prompts"], said["sent_on"], said["when"]) == (2, 1, [0.1, 0.9])


async def test_what_the_second_cannot_answer_is_not_taken_from_the_first() -> None:
    lost = Dropped("p1", "classify", Reason.PARSE)
    cascade = CascadeClassifier(Fixed(UNSURE), Fixed(lost), (0.1, 0.9))
    assert await cascade.probabilities([prompt("a")]) == [lost]


async def test_what_the_first_has_no_answer_for_is_not_asked_again() -> None:
    waiting, then = Pending("p1", "classify"), Counting()
    cascade = CascadeClassifier(Fixed(waiting), then, (0.1, 0.9))
    assert await cascade.probabilities([prompt("a")]) == [waiting]
    assert then.asked == []


async def test_a_cascade_of_the_configuration_asks_the_model_about_some_prompts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "misalign_bench.build.classify.classify._zero_shot", lambda _: Fixed(SURE, UNSURE)
    )
    model = ModelSettings(model="simulated/classifier")
    settings = ClassifySettings.model_validate({"cascade": {"then": "joint", "when": [0.2, 0.8]}})
    texts = ["How do I dance this? [[labels:Opera]]", "And this? [[labels:Dance]]"]
    async with client_of(tmp_path, model) as client:
        found = await make_classifier(settings, model, client).probabilities(
            [prompt(text, number) for number, text in enumerate(texts)]
        )
    assert found[0] == SURE
    assert isinstance(found[1], tuple)
    assert found[1][KEYS.index("culture/Dance")] >= 0.5
    assert len(await messages_asked(tmp_path)) == 3


def test_a_cascade_names_its_method_itself() -> None:
    held = ClassifySettings.model_validate({"cascade": {"then": "yesno"}})
    assert held.method == "yesno"
    assert ClassifySettings.model_validate(held.model_dump()) == held
    with pytest.raises(ValueError, match="method must be joint"):
        ClassifySettings.model_validate({"method": "embedding", "cascade": {}})


@pytest.mark.parametrize("when", [(0.9, 0.1), (-0.1, 0.5), (0.5, 1.1), (0.5, 0.5)])
def test_a_band_that_is_none_is_refused(when: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="the lower one first"):
        ClassifySettings.model_validate({"cascade": {"when": when}})


# Thresholds


def test_a_domain_s_own_threshold_goes_before_its_dimension_s() -> None:
    held = thresholds({"culture": 0.3, "culture/Dance": 0.8})
    by_key = dict(zip(KEYS, held, strict=True))
    assert (by_key["culture/Dance"], by_key["culture/Opera"]) == (0.8, 0.3)
    assert by_key["safety/Self-harm"] == 0.5


async def test_labels_follow_the_thresholds_of_their_domains() -> None:
    held = spread(**{"culture/Dance": 0.7, "culture/Opera": 0.7, "value/Wealth": 0.6})
    kept, _, _ = await classify([prompt("a")], Fixed(held), {"culture/Dance": 0.8, "value": 0.61})
    assert [label.key for label in kept[0].labels] == ["culture/Opera"]


async def test_a_prompt_without_labels_names_the_domain_nearest_to_its_threshold() -> None:
    held = spread(**{"culture/Dance": 0.7, "value/Wealth": 0.6})
    _, dropped, _ = await classify(
        [prompt("a")], Fixed(held), {"culture/Dance": 0.99, "value/Wealth": 0.61}
    )
    assert "value/Wealth 0.600, delta 0.61" in dropped[0].detail


def test_a_threshold_for_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="'culture/Knitting' is no dimension and no domain"):
        thresholds({"culture/Knitting": 0.5})


@pytest.mark.parametrize("delta", [0, 1, 1.5, {"culture": 0}, {"culture": 2}])
def test_a_threshold_outside_0_to_1_is_refused(delta: Any) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        ClassifySettings.model_validate({"delta": delta})


def test_one_label_is_the_most_probable_of_each_dimension() -> None:
    held = spread(**{"culture/Dance": 0.6, "culture/Opera": 0.7, "value/Wealth": 0.5})
    one = with_one_label(labelled(prompt("a"), held, 0.5))
    assert [label.key for label in one.labels] == ["value/Wealth", "culture/Opera"]
    assert one.probabilities == held


# Calibration


def overconfident(count: int = 4000) -> tuple[Any, Any, Any]:
    """Probabilities whose log-odds are twice what they should be."""
    random = np.random.default_rng(2)
    truth_odds = random.normal(size=(count, 3)) * 1.5 - 1.0
    labels = random.random((count, 3)) < 1 / (1 + np.exp(-truth_odds))
    given = 1 / (1 + np.exp(-2 * truth_odds))
    return given, labels, np.arange(count) % 5


def test_the_temperature_that_was_used_is_found() -> None:
    given, labels, _ = overconfident()
    held = scaling.fit_temperature(given, labels)
    assert held.temperature == pytest.approx(2.0, rel=0.15)
    assert held.shift == pytest.approx(0.0, abs=0.15)


@pytest.mark.parametrize("fit", [scaling.fit_temperature, scaling.fit_isotonic])
def test_scaling_lowers_the_error_of_overconfident_probabilities(fit: Any) -> None:
    given, labels, _ = overconfident()
    half = len(given) // 2
    held = fit(given[:half], labels[:half])
    before = reliability(given[half:], labels[half:])
    after = reliability(held(given[half:]), labels[half:])
    assert after.expected_calibration_error < before.expected_calibration_error / 3
    assert after.log_loss < before.log_loss


def test_the_simpler_form_is_kept_unless_the_curve_is_clearly_better() -> None:
    given, labels, fold = overconfident()
    assert isinstance(scaling.choose(given, labels, fold)[0], scaling.Temperature)
    random = np.random.default_rng(3)
    given = random.random((6000, 2))
    bent = random.random((6000, 2)) < np.where(given < 0.5, 0.05, np.where(given < 0.9, 0.9, 0.92))
    assert isinstance(scaling.choose(given, bent, np.arange(6000) % 5)[0], scaling.Isotonic)


CHANCES = arrays.arrays(np.float64, 30, elements=st.floats(0, 1))


@given(CHANCES, arrays.arrays(np.bool_, 30))
def test_scaling_keeps_the_order_and_stays_a_probability(chances: Any, labels: Any) -> None:
    for fit in (scaling.fit_temperature, scaling.fit_isotonic):
        held = fit(chances, labels)(np.sort(chances))
        assert (np.diff(held) >= -1e-12).all()
        assert ((held >= 0) & (held <= 1)).all()


@pytest.mark.parametrize(
    "held", [scaling.Temperature(1.5, -0.2), scaling.Isotonic((0.1, 0.6), (0.0, 0.9))]
)
def test_a_scaling_is_read_as_it_was_written(held: scaling.Scaling) -> None:
    assert scaling.read(held.as_table()) == held


@pytest.mark.parametrize("table", [{}, {"kind": "isotonic", "given": [], "found": []}])
def test_a_broken_scaling_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        scaling.read(table)


# Reliability


def test_perfect_probabilities_have_no_error_and_wrong_ones_all() -> None:
    truth = np.array([True, False, True])
    assert reliability(truth.astype(float), truth).expected_calibration_error == 0.0
    assert reliability(1.0 - truth, truth).expected_calibration_error == 1.0


@given(CHANCES, arrays.arrays(np.bool_, 30))
def test_every_entry_is_in_one_bar_and_the_error_is_theirs(chances: Any, labels: Any) -> None:
    held = reliability(chances, labels)
    assert sum(bar.count for bar in held.bins) == 30
    error = sum(bar.count * abs(bar.probability - bar.share) for bar in held.bins) / 30
    assert held.expected_calibration_error == pytest.approx(error)


def test_the_diagram_of_the_best_domain_has_one_entry_a_prompt() -> None:
    found = diagrams(np.array([[0.9, 0.2], [0.3, 0.1]]), np.array([[True, False], [False, True]]))
    assert sum(bar["count"] for bar in found["best_domain"]["bins"]) == 2
    assert sum(bar["count"] for bar in found["pairs"]["bins"]) == 4


def test_no_prompts_have_a_diagram_without_bars() -> None:
    held = diagrams(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.bool_))
    assert held["pairs"] == {"expected_calibration_error": None, "log_loss": None, "bins": []}


def test_the_zero_shot_classifier_shows_its_reliability() -> None:
    from misalign_bench.build.classify.embedding import EmbeddingClassifier

    said = EmbeddingClassifier(Words()).describe()["reliability"]
    assert set(said) == set(DIMENSIONS)
    assert said["culture"]["best_domain"]["bins"]
    assert len(taxonomy().domains) == len(KEYS)


def test_a_head_is_looked_for_beside_its_configuration_and_kept_by_name(tmp_path: Path) -> None:
    from misalign_bench.cli.running import dumped
    from misalign_bench.config_file import parse

    models = ("classifier", "evaluator")
    table = {
        "source": {"path": "prompts.csv"},
        "roles": dict.fromkeys(models, "embedded/minilm") | {"generators": ["simulated/generator"]},
        "classify": {"method": "embedding", "head": "heads/mine.npz", "delta": {"value": 0.2}},
        "expand": {"enabled": False},
    }
    settings = parse(table, where="run.yaml", folder=tmp_path)
    assert settings.classify.head == str(tmp_path / "heads" / "mine.npz")
    assert dumped(settings)["classify"]["head"] == "mine.npz"
    assert settings.classify.embeds
    absolute = str(tmp_path / "other.npz")
    table["classify"] = {**table["classify"], "head": absolute}
    assert parse(table, where="run.yaml", folder=tmp_path / "x").classify.head == absolute
