"""Expansion of prompts that came with labels: new ones are labelled in a way of their own.

The expander and the classifier of new prompts are simulated: they agree by a mark in the prompt, so
every domain can be served. The labels of the others are the published ones.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from builds import CONFIGURATION, Silent
from misalign_bench.build.classify.classify import (
    PublishedClassifier,
    classify,
    make_classifier,
)
from misalign_bench.build.deduplicate import deduplicate
from misalign_bench.build.expand import expand, wanted_domains
from misalign_bench.build.ingest import ingest
from misalign_bench.build.policy import barred_domains
from misalign_bench.build.roles import Clients
from misalign_bench.build.split import with_splits
from misalign_bench.build.statistics_table import DomainRow, Ledger, domain_table
from misalign_bench.cli.main import main
from misalign_bench.config import RunSettings
from misalign_bench.config_file import parse
from misalign_bench.errors import UserError
from misalign_bench.journal.store import Journal
from misalign_bench.llm.budget import Budget

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data" / "savacu_classified_prompts.csv"
TARGET = 100
ROLES = {
    "classifier": "simulated/classifier",
    "expander": "simulated/expander",
    "generators": ["simulated/generator"],
    "evaluator": "simulated/judge?sensitivity=1&specificity=1",
}
TOPICS = ("my rent", "a lost dog", "the school play", "a broken fence", "our choir", "this recipe")


def table(**changes: Any) -> dict[str, Any]:
    return {
        **CONFIGURATION,
        "roles": ROLES,
        "classify": {"method": "published"},
        "expand": {"target": 4, "per_request": 5, "classify": {"method": "joint"}},
        **changes,
    }


def published_file(folder: Path) -> None:
    """Six prompts in the columns of the published file, with one label in a dimension or none."""
    columns = ("prompt", "safety_name", "values_name", "cultural_name")
    with (folder / "prompts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for number, topic in enumerate(TOPICS):
            culture = "Festivals" if number % 2 else "None"
            writer.writerow([f"What would you do about {topic}?", "None", "Honesty", culture])


def test_every_domain_reaches_its_target_beside_published_labels(tmp_path: Path) -> None:
    published_file(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(table()))
    assert (
        main(["build", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    )
    with (tmp_path / "out" / "stats.csv").open(encoding="utf-8", newline="") as file:
        rows = {f"{row['dimension']}/{row['name']}": row for row in csv.DictReader(file)}
    settings = parse(table(), where="test", folder=tmp_path)
    served = {domain.key for domain in wanted_domains(settings)}
    assert served == rows.keys() - barred_domains(settings.policy)
    for key, row in rows.items():
        left = int(row["expanded"]) - int(row["deduplicated"])
        assert (left >= 4) if key in served else (left == 0), key
    assert {int(row["classified"]) for row in rows.values()} == {0, 3, len(TOPICS)}


@pytest.mark.skipif(
    not SHARED.is_file(),
    reason="the published prompts (../shared/data/savacu_classified_prompts.csv) are not here",
)
async def test_the_published_prompts_reach_the_paper_target_in_every_domain(tmp_path: Path) -> None:
    source = {"path": str(SHARED.resolve())}
    held = {"target": TARGET, "per_request": 10, "classify": {"method": "joint"}}
    settings = parse(table(source=source, expand=held), where="test", folder=tmp_path)
    rows, unmet = await expanded_table(settings, tmp_path / "journal.sqlite")
    served = {domain.key for domain in wanted_domains(settings)}
    left = {f"{row.dimension}/{row.name}": row.expanded - row.deduplicated for row in rows}
    assert len(rows) == 111
    assert {key for key, number in left.items() if number < TARGET} <= left.keys() - served
    assert unmet == {}
    before = {f"{row.dimension}/{row.name}": row.classified for row in rows}
    rare = {key for key in served if before[key] < TARGET}
    assert rare
    # A domain that was rare is filled up and not beyond, but for what counts in two domains.
    assert all(left[key] == TARGET for key in rare)


async def expanded_table(
    settings: RunSettings, journal: Path
) -> tuple[tuple[DomainRow, ...], dict[str, str]]:
    """Stage I up to expansion and deduplication, and its table."""
    ingested = ingest(settings.source)
    labelled, dropped, _ = await classify(ingested.prompts, PublishedClassifier(), 0.5)
    found = deduplicate(
        [one.prompt for one in labelled], settings.deduplicate, among=ingested.prompts
    )
    kept_ids = {prompt.id for prompt in found.kept}
    held = [one for one in labelled if one.prompt.id in kept_ids]
    kept = with_splits(held, found.clusters, settings.seed, settings.split)
    opened = Journal.open(journal)
    clients = Clients(opened, settings.seed, Budget())
    role = settings.roles.classifier
    assert settings.roles.expander is not None
    try:
        classifier = make_classifier(settings.classify_written, role, clients.of(role))
        expander = clients.of(settings.roles.expander)
        done = await expand(kept, expander, classifier, settings, Silent().advance)
    finally:
        await clients.close()
        await opened.close()
    ledger = Ledger(labelled, done.written)
    return domain_table(ledger, [], [*dropped, *found.dropped, *done.dropped]), done.unmet


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"expand": {"target": 4}}, "published labels cannot be given to new prompts"),
        ({"expand": {"classify": {"method": "published"}}}, "published labels cannot"),
        ({"classify": {"method": "joint"}}, "expand.classify is for published labels"),
    ],
)
def test_labels_of_new_prompts_must_come_from_somewhere(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        parse(table(**changes), where="test", folder=tmp_path)
