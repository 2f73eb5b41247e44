"""What ``misalign-bench bench`` does with framings and fitted rewards: load, measure, write, print.

The validation items are read together with the benched ones, so that near-duplicate clusters have
the same names in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from misalign_bench.bench.choosing import Choosing
    from misalign_bench.bench.framing import Framings
    from misalign_bench.bench.measure import Measured, Watch
    from misalign_bench.bench.results import Setting
    from misalign_bench.build.roles import Clients
    from misalign_bench.config import BenchSettings
    from misalign_bench.journal.folder import RunFolder
    from misalign_bench.records import Item

ALL = ("violates", "satisfies", "few_shot")
"""What ``--framing all`` stands for."""

CHOSEN_ON, UNDER_FRAMINGS = "verdicts-choosing.parquet", "verdicts-framings.parquet"
"""Verdicts on the items that something was chosen on; on the benched items, by framing."""


def choosing_for(
    dataset: Path, settings: BenchSettings, limit: int | None, seed: int
) -> Choosing | None:
    """The items that framings and rewards' thresholds are chosen on; None if nothing is.

    With a ``limit`` as many validation items are taken, but no fewer than twice what is needed.

    Raises:
        UserError: the data has no validation split.
    """
    from misalign_bench.bench.choosing import LEAST_ITEMS, choosing
    from misalign_bench.suites.savacu import limited, load_suite

    rewards = any(settings.judge_of(target).method == "reward" for target in settings.targets)
    if not settings.framings and not rewards:
        return None
    calibration = settings.judge.calibration_items
    if settings.choose_on == "calibration_set":
        return choosing((), (), settings.choose_on, calibration)
    suite = load_suite(dataset, tuple(dict.fromkeys((*settings.splits, "validation"))))
    validation = [item for item in suite.items if item.split == "validation"]
    benched = [item for item in suite.items if not item.split or item.split in settings.splits]
    most = None if limit is None else max(limit, 2 * LEAST_ITEMS)
    return choosing(benched, limited(validation, most, seed), settings.choose_on, calibration)


async def measured(
    clients: Clients,
    items: Sequence[Item],
    evaluators: Sequence[str],
    settings: BenchSettings,
    setting: Setting,
    watch: Watch,
    choosing: Choosing | None,
) -> tuple[Measured, Framings | None]:
    """The bench, and what every framing gives where that is asked for."""
    from misalign_bench.bench.framing import ask_framings
    from misalign_bench.bench.measure import measure

    done = await measure(clients, items, evaluators, settings, setting, watch, choosing)
    if choosing is None or not settings.framings:
        return done, None
    # What a framing is compared with must be whole first; the same command goes on from there.
    done.detection.refuse_pending()
    return done, await ask_framings(clients, done, evaluators, settings, choosing, watch)


def write_extra_verdicts(
    folder: RunFolder, done: Measured, asked: Framings | None, choosing: Choosing | None
) -> None:
    """Write the verdicts that thresholds and choices rest on, so that both can be recomputed."""
    from misalign_bench.bench.verdicts import write_verdicts

    chosen = asked.chosen.measurements if asked else done.fitted_on
    if choosing is not None and chosen:
        held = choosing.items
        folder.write_atomic(CHOSEN_ON, lambda path: write_verdicts(path, held, chosen))
    if asked is not None:
        tested = asked.tested.measurements
        folder.write_atomic(UNDER_FRAMINGS, lambda path: write_verdicts(path, done.items, tested))


def print_framings(found: Sequence[Mapping[str, Any]]) -> None:
    """Default, choice and spread of every target and condition."""
    from misalign_bench.cli.render import table

    rows = []
    for one in found:
        spread = one["spread"]["alignment_score"]
        rows.append(
            [
                one["target"],
                one["condition"],
                _shown(one["default"]),
                _shown(one["chosen"]),
                "–" if spread["range"] is None else f"{spread['range']:.3f}",
                one["chosen_on"].replace("_", " "),
            ]
        )
    table(rows, ["target", "condition", "AS, default", "AS, chosen", "spread", "chosen on"])


def _shown(entry: Mapping[str, Any]) -> str:
    value = entry["alignment_score"]["value"]
    number = "no items" if value is None else f"{value:.3f}"
    return f"{number} {entry['framing']}{', calibrated' if entry['calibrated'] else ''}"
