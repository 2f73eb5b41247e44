"""The checks of a data set that ``misalign-bench validate`` makes.

Of any data set: rows are well formed, labels are in the taxonomy, no cluster and no near-duplicate
stands in two splits. Of a folder that Stage I wrote also: columns, ids, the truth of every
response, the canary in the test split and only there, configurations that agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from misalign_bench.build.deduplicate import cluster_ids
from misalign_bench.build.export import DROPPED, data_path
from misalign_bench.build.export_rows import (
    CANARY,
    CONFIGURATIONS,
    METADATA,
    Configuration,
    arrow_schema,
)
from misalign_bench.build.ingest import content_id
from misalign_bench.cli.validate import Findings
from misalign_bench.config import DeduplicateSettings
from misalign_bench.errors import UserError
from misalign_bench.json_text import read_json
from misalign_bench.records import SPLITS, Item, Prompt
from misalign_bench.suites.files import Row, parquet
from misalign_bench.suites.savacu import load_suite
from misalign_bench.taxonomy.loader import taxonomy

MOST = 5
"""How many problems of one kind are told one by one."""

_NEEDED = frozenset(
    {
        *("prompt_id", "prompt", "cluster_id", "split", "generator", "active", "domains"),
        *("intended", "aligned_violated", "misaligned_violated", "canary"),
    }
)


def dataset_findings(path: Path) -> Findings:
    """Check a data set folder, or a file of items."""
    findings = Findings()
    rule = _folder(path, findings) if path.is_dir() else DeduplicateSettings()
    if rule is None:
        return findings
    try:
        suite = load_suite(path, splits=())
    except UserError as error:
        findings.problems.append(str(error))
        return findings
    items = suite.items
    findings.checked.append(f"{path}: {len(items):,} responses are well formed")
    findings.all_of("every label is in the taxonomy", _few(_strangers(items)))
    findings.all_of("no cluster stands in two splits", _few(_parted_clusters(items)))
    findings.all_of(
        "no near-duplicate prompts stand in two splits",
        _few(_parted_twins(items, rule)),
        f"distance {rule.tau}, Jaccard {rule.verify}",
    )
    if suite.simulated:
        findings.notes.append("a simulated model wrote, labelled or judged part of it")
    return findings


def _folder(path: Path, findings: Findings) -> DeduplicateSettings | None:
    """Check what Stage I wrote.

    Returns:
        The duplicate rule that it was made by, or None if its rows cannot be read.
    """
    metadata: dict[str, Any] = {}
    for configuration in CONFIGURATIONS:
        findings.all_of(
            f"{configuration}: every split is there with its columns",
            _columns(path, configuration, metadata),
        )
    if findings.problems:
        return None
    findings.all_of("it was made with this taxonomy and canary", _made_with(metadata))
    rows: dict[str, list[Row]] = {
        split: list(parquet(path / data_path("pairs", split), _NEEDED)) for split in SPLITS
    }
    findings.all_of("prompts, ids and splits agree", _few(_identities(rows)))
    findings.all_of("every response is what it is said to be", _few(_truths(rows)))
    findings.all_of("the canary is in the test split only", _few(_canaries(path)))
    findings.all_of("the configurations agree", _agreement(path, rows))
    findings.all_of("the card names every file", _card(path))
    findings.check("dropped rows", lambda: _dropped(path))
    if metadata.get("shared_roles"):
        findings.notes.append("roles were shared: labels and verdicts are circular")
    try:
        return DeduplicateSettings.model_validate(metadata.get("duplicate_rule", {}))
    except ValueError:
        findings.problems.append(f"{path}: the metadata's duplicate rule is none")
        return DeduplicateSettings()


def _columns(path: Path, configuration: Configuration, metadata: dict[str, Any]) -> Iterator[str]:
    """Missing or broken files and columns; fills in the metadata that the files carry."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    expected = arrow_schema(configuration)
    for split in SPLITS:
        place = path / data_path(configuration, split)
        try:
            found = pq.read_schema(place)
        except FileNotFoundError:
            yield f"{place}: there is no such file"
            continue
        except (OSError, pa.ArrowException) as error:
            yield f"{place}: is not Parquet, or broken: {str(error).splitlines()[0]}"
            continue
        for column in expected:
            position = found.get_field_index(column.name)
            if position < 0:
                yield f"{place}: has no column {column.name!r}"
            elif found.field(position).type != column.type:
                yield f"{place}: {column.name!r} is {found.field(position).type}, not {column.type}"
        try:
            metadata |= read_json((found.metadata or {})[METADATA.encode()])
        except (LookupError, ValueError, TypeError):
            yield f"{place}: has no metadata {METADATA!r}"


def _made_with(metadata: Mapping[str, Any]) -> Iterator[str]:
    held = taxonomy()
    if metadata.get("canary") != CANARY:
        yield "the canary in the metadata is not this project's"
    if metadata.get("domains") != [domain.key for domain in held.domains]:
        yield "the metadata names other domains than this version's taxonomy"
    elif metadata.get("taxonomy") != held.digest:
        yield "the taxonomy's definitions are not those that the data set was labelled with"


def _identities(rows: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Ids that are not the hash of the text, rows in the wrong file, repeated pairs."""
    seen: set[tuple[str, str]] = set()
    for split, held in rows.items():
        for row in held:
            name = row.text("prompt_id")
            if name != content_id(row.text("prompt")):
                yield f"{row.where}: {name} is not the id of its prompt"
            if row.text("split") != split:
                yield f"{row.where}: says split {row.text('split')!r}"
            pair = (name, row.text("generator"))
            if pair in seen:
                yield f"{row.where}: a second pair of {name} by {pair[1]}"
            seen.add(pair)


def _truths(rows: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Responses that the acceptance rule would refuse (contract, section 2)."""
    for held in rows.values():
        for row in held:
            violated = row.fields["misaligned_violated"] or {}
            intended = row.texts("intended")
            if not any(violated.get(dimension) for dimension in intended):
                yield f"{row.where}: the misaligned response violates no intended dimension"
            if any((row.fields["aligned_violated"] or {}).values()):
                yield f"{row.where}: the aligned response violates a dimension"
            active = row.texts("active")
            if not active or {key.partition("/")[0] for key in row.texts("domains")} != set(active):
                yield f"{row.where}: 'active' is not what its domains say"
            if not set(intended) <= set(active):
                yield f"{row.where}: a dimension is intended that is not active"


def _canaries(path: Path) -> Iterator[str]:
    for configuration in CONFIGURATIONS:
        for split in SPLITS:
            expected = CANARY if split == "test" else None
            for row in parquet(path / data_path(configuration, split), ("canary",)):
                if row.fields["canary"] != expected:
                    yield f"{row.where}: canary is {row.fields['canary']!r:.60}"


def _agreement(path: Path, rows: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Whether the other configurations have the rows that the pairs give."""
    for split, held in rows.items():
        expected = {
            "preference": len(held),
            "sft": len(held),
            "unpaired": 2 * len(held),
            "flat": sum(2 * len(row.texts("domains")) for row in held),
        }
        for configuration, count in expected.items():
            found = _count(path / data_path(configuration, split))
            if found != count:
                yield f"{configuration}/{split}: {found} rows, where its pairs give {count}"


def _count(place: Path) -> int:
    """How many rows a Parquet file has."""
    import pyarrow.parquet as pq

    count: int = pq.read_metadata(place).num_rows
    return count


def _card(folder: Path) -> Iterator[str]:
    """Whether ``load_dataset`` finds every file by the card's front matter."""
    import yaml

    from misalign_bench.config_file import read_yaml

    place = folder / "README.md"
    try:
        text = place.read_text(encoding="utf-8")
        front = read_yaml(text.split("---\n", 1)[1].split("\n---\n", 1)[0].encode())
        named = {
            (one["config_name"], file["split"], file["path"])
            for one in front["configs"]
            for file in one["data_files"]
        }
    except (OSError, UnicodeDecodeError):
        yield f"{place}: cannot be read"
    except (yaml.YAMLError, LookupError, TypeError, ValueError):
        yield f"{place}: has no front matter that names the data files"
    else:
        for configuration in CONFIGURATIONS:
            for split in SPLITS:
                path = data_path(configuration, split)
                # ``datasets`` cannot load a split without rows, so the card leaves it out.
                if ((configuration, split, path) in named) != bool(_count(folder / path)):
                    yield f"{place}: names {path}, which is empty, or leaves it out"


def _dropped(path: Path) -> str:
    place = path / DROPPED
    if not place.is_file():
        raise UserError("there is no such file", where=str(place))
    counts = Counter(row.text("reason") for row in parquet(place, ("reason",)))
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items())) or "none"


def _strangers(items: Sequence[Item]) -> Iterator[str]:
    """Labels that the taxonomy does not have."""
    known = {domain.key for domain in taxonomy().domains}
    named = Counter(
        key for item in items for key in {*item.domains, *item.intended_domains} - known
    )
    for key, count in sorted(named.items()):
        yield f"{key!r} is no domain of the taxonomy ({count} responses)"


def _parted_clusters(items: Sequence[Item]) -> Iterator[str]:
    splits: dict[str, set[str]] = {}
    for item in items:
        splits.setdefault(item.cluster_id, set()).add(item.split)
    for cluster, held in sorted(splits.items()):
        if len(held) > 1:
            yield f"cluster {cluster} stands in {' and '.join(sorted(held))}"


def _parted_twins(items: Sequence[Item], rule: DeduplicateSettings) -> Iterator[str]:
    """Near-duplicate prompts in different splits, whatever clusters the data names."""
    splits: dict[str, set[str]] = {}
    for item in items:
        splits.setdefault(item.prompt, set()).add(item.split)
    prompts = [Prompt(content_id(text), text, "", 0) for text in splits]
    clusters: dict[str, list[Prompt]] = {}
    found = cluster_ids(prompts, rule)
    for prompt in prompts:
        clusters.setdefault(found[prompt.id], []).append(prompt)
    for held in clusters.values():
        if len({split for prompt in held for split in splits[prompt.text]}) > 1:
            names = ", ".join(
                f"{prompt.id} ({' and '.join(sorted(splits[prompt.text]))})" for prompt in held[:3]
            )
            yield f"near-duplicates stand in different splits: {names}"


def _few(problems: Iterator[str]) -> Iterator[str]:
    """The first problems of a kind, and how many more there are."""
    yield from islice(problems, MOST)
    if rest := sum(1 for _ in problems):
        yield f"... and {rest} more like it"
