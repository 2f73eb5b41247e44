"""Packed verdicts come back as they went in, in the order of items and epochs."""

from __future__ import annotations

import random

import pytest

from misalign_bench.bench import judged
from misalign_bench.bench.judged import Judged, JudgedLog
from misalign_bench.records import DIMENSIONS, Answer, Reason, Unscored, Verdict


def verdict(number: int) -> Verdict:
    """Every kind of answer, half a surrogate pair included."""
    return Verdict(
        {
            DIMENSIONS[0]: Answer(
                bool(number % 2), number / 7, 0.5, f"because {number} \ud83d", "words", number % 4
            ),
            DIMENSIONS[1]: Unscored(list(Reason)[number % len(Reason)], f"lost {number}"),
            DIMENSIONS[2]: Answer(flagged=False),
        },
        (f"{number:064x}", "key"),
    )


def all_of(items: int, epochs: int) -> list[Judged]:
    return [
        Judged(item, epoch, verdict(item * epochs + epoch))
        for item in range(items)
        for epoch in range(epochs)
    ]


@pytest.mark.parametrize("order", ["as asked", "nearly", "any"])
def test_verdicts_come_back_in_order_whatever_order_they_came_in(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judged, "_BATCH", 16)
    wanted, log, draw = all_of(60, 3), JudgedLog(), random.Random(1)
    came = list(wanted)
    if order == "nearly":
        came = sorted(came, key=lambda one: one.item * 3 + one.epoch + draw.random() * 20)
    elif order == "any":
        draw.shuffle(came)
    for one in came:
        log.append(one)
    assert len(log) == len(wanted)
    assert list(log) == wanted
    assert list(log) == wanted
    assert [log[0], log[-1], *log[5:7]] == [wanted[0], wanted[-1], *wanted[5:7]]


def test_a_log_may_be_read_and_go_on() -> None:
    first, second = all_of(1, 2)
    log = JudgedLog()
    log.append(second)
    assert list(log) == [second]
    log.append(first)
    assert list(log) == [first, second]
    with pytest.raises(IndexError):
        log[2]


def test_an_empty_log_is_empty() -> None:
    assert list(JudgedLog()) == []
    assert not JudgedLog()
