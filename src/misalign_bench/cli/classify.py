"""``misalign-bench classify``: a probability per domain for every prompt (Stage I, step 2).

With a language model every call goes through a journal in a folder beside the output, so that the
same command continues after whatever stopped it.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misalign_bench.cli.running import add_call_arguments, argv, fetch_weights, with_clients
from misalign_bench.cli.source import add_source_arguments, source_of
from misalign_bench.errors import UserError

if TYPE_CHECKING:
    from misalign_bench.build.classify.classify import Classified, Classifier
    from misalign_bench.build.roles import Clients
    from misalign_bench.cli.progress import Progress
    from misalign_bench.config import ClassifySettings
    from misalign_bench.config_model import ModelSettings
    from misalign_bench.records import LabelledPrompt, Prompt

NAME = "classify"
HELP = "label the prompts of a file over the 111 domains"

_METHODS = ("embedding", "yesno", "joint", "published")
_ASKING = ("yesno", "joint")
_SLICE = 1_000

Work = Callable[["Classifier"], Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="CSV, JSON Lines, Parquet or text")
    parser.add_argument(
        "--method",
        choices=_METHODS,
        default="embedding",
        help="how labels are found (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="provider/name for yesno and joint; for embedding an embedding model "
        "(default: embedded/minilm)",
    )
    _add_labelling_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="a .parquet or .csv file to write")
    parser.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        dest="folder",
        help="folder of the journal for yesno and joint (default: OUT.run)",
    )
    add_source_arguments(parser)
    add_call_arguments(parser)


def _add_labelling_arguments(parser: argparse.ArgumentParser) -> None:
    """What refines a method, and where labels begin."""
    parser.add_argument(
        "--head", default="", metavar="HEAD", help="a file that fit wrote: for embedding, yesno"
    )
    parser.add_argument(
        "--embedder",
        default="embedded/minilm",
        metavar="MODEL",
        help="ranks for yesno and comes first in a cascade: embedded/minilm, onnx/FOLDER, or both "
        "joined by + (default: %(default)s)",
    )
    parser.add_argument(
        "--delta",
        type=float,
        help="least probability of a label (default: 0.5; with a head, what was fitted with it)",
    )
    parser.add_argument(
        "--one-label",
        action="store_true",
        help="keep only the most probable label of each dimension",
    )
    parser.add_argument(
        "--unsure",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="cascade: ask the model only where the embedding gives a domain a probability between",
    )
    parser.add_argument(
        "--candidates",
        type=int,
        default=12,
        metavar="N",
        help="domains that yesno asks about, best-ranked first (default: 12)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Read, classify, write or print."""
    from misalign_bench.build.classify.classify import labelled, with_one_label
    from misalign_bench.build.ingest import ingest
    from misalign_bench.build.pipeline import Unfinished
    from misalign_bench.cli.progress import Progress
    from misalign_bench.cli.writing import write_whole
    from misalign_bench.records import Dropped, Pending

    settings, model, source = _settings(arguments)
    write = _writer(arguments.out)
    ingested = ingest(source)
    progress = Progress(arguments.quiet)
    results, about = _classify(ingested.prompts, settings, model, arguments, progress)
    if pending := [held for held in results if isinstance(held, Pending)]:
        raise Unfinished(pending)
    dropped = [*ingested.dropped, *(held for held in results if isinstance(held, Dropped))]
    rows = [
        labelled(prompt, held, settings.delta)
        for prompt, held in zip(ingested.prompts, results, strict=True)
        if isinstance(held, tuple)
    ]
    if arguments.one_label:
        rows = [with_one_label(row) for row in rows]
    about = {**about, "delta": settings.delta, "one_label": arguments.one_label}
    if write is not None:
        write_whole(arguments.out, lambda path: write(path, rows, about))
    reasons = Counter(row.reason.value for row in dropped)
    _show(rows, reasons, about, arguments, progress)
    return 0


def _settings(arguments: argparse.Namespace) -> tuple[ClassifySettings, ModelSettings, Any]:
    """The command line as checked settings: of the step, the model and the source."""
    from pydantic import ValidationError

    from misalign_bench.config import ClassifySettings
    from misalign_bench.config_file import explain
    from misalign_bench.config_model import ModelSettings

    if arguments.method in _ASKING and not arguments.model:
        raise UserError(
            f"the method {arguments.method} asks a model", mend="Name it: --model openai/NAME"
        )
    if arguments.method in _ASKING and not (arguments.out or arguments.folder):
        raise UserError(
            "the model's answers need a place to be kept", mend="Name one: --out FILE or --run DIR"
        )
    classify: dict[str, Any] = {
        "method": arguments.method,
        "candidates": arguments.candidates,
        "head": arguments.head,
        "embedder": arguments.embedder,
        "delta": _delta(arguments),
    }
    if arguments.unsure:
        classify["cascade"] = {"then": arguments.method, "when": tuple(arguments.unsure)}
    try:
        return (
            ClassifySettings.model_validate(classify),
            ModelSettings.model_validate(arguments.model or arguments.embedder),
            source_of(arguments),
        )
    except ValidationError as error:
        raise UserError(explain(error)) from None


def _delta(arguments: argparse.Namespace) -> float | dict[str, float]:
    """What is asked for, else what was fitted with the head, else the paper's."""
    from misalign_bench.build.classify.classify import DELTA

    if arguments.delta is not None or arguments.method != "embedding" or not arguments.head:
        return DELTA if arguments.delta is None else float(arguments.delta)
    from misalign_bench.build.classify.head import load

    head = load(arguments.head)
    return head.one_label_delta if arguments.one_label else head.delta


def _classify(
    prompts: Sequence[Prompt],
    settings: ClassifySettings,
    model: ModelSettings,
    arguments: argparse.Namespace,
    progress: Progress,
) -> tuple[list[Classified], dict[str, Any]]:
    """All results in order, and what the classifier says about itself."""
    from misalign_bench.build.classify.classify import make_classifier

    names = [settings.embedder] if settings.embeds and settings.method != "embedding" else []
    fetch_weights([*names, model.model] if settings.method != "published" else [], arguments.quiet)

    async def work(classifier: Classifier) -> tuple[list[Classified], dict[str, Any]]:
        results: list[Classified] = []
        with progress.stage("classify", len(prompts)) as stage:
            for start in range(0, len(prompts), _SLICE):
                part = prompts[start : start + _SLICE]
                results += await classifier.probabilities(part)
                stage.advance(len(part))
        return results, classifier.describe()

    if settings.method not in _ASKING:
        return asyncio.run(work(make_classifier(settings, model)))
    return _ask(settings, model, arguments, work)


def _ask(
    settings: ClassifySettings, model: ModelSettings, arguments: argparse.Namespace, work: Work
) -> tuple[list[Classified], dict[str, Any]]:
    """Classify through a client over the journal of a run folder."""
    from misalign_bench.build.classify.classify import make_classifier
    from misalign_bench.config import BudgetSettings
    from misalign_bench.journal.folder import RunFolder
    from misalign_bench.prompts.loader import template

    async def classify(clients: Clients) -> tuple[list[Classified], dict[str, Any]]:
        held: tuple[list[Classified], dict[str, Any]] = await work(
            make_classifier(settings, model, clients.of(model))
        )
        return held

    dump = {"classify": settings.model_dump(mode="json"), "model": model.model_dump(mode="json")}
    budget = BudgetSettings(max_cost=arguments.max_cost, max_calls=arguments.max_calls)
    path = arguments.folder or arguments.out.with_name(f"{arguments.out.name}.run")
    with RunFolder.open(path, command=argv(), settings_dump=dump) as folder:
        name = f"classify_{settings.method}"
        folder.manifest.describe(seeds={"run": 0}, templates={name: template(name).digest})
        result, _ = with_clients(folder, [model], budget, 0, arguments, classify)
    return result


def _show(
    rows: Sequence[LabelledPrompt],
    dropped: Mapping[str, int],
    about: Mapping[str, Any],
    arguments: argparse.Namespace,
    progress: Progress,
) -> None:
    """Print the labels, or where they are, and how many there are."""
    from misalign_bench.cli.render import json_out, table

    labels = sum(len(row.labels) for row in rows)
    if arguments.json:
        out: dict[str, Any] = {"prompts": len(rows), "labels": labels, "dropped": dict(dropped)}
        out |= {"classifier": about}
        if arguments.out:
            out |= {"out": str(arguments.out)}
        else:
            out |= {"rows": [_listed(row) for row in rows]}
        json_out(out)
        return
    if not arguments.out:
        shown = [(row.prompt.id, row.prompt.text, _sentence(row)) for row in rows]
        table(shown, ("id", "prompt", "labels"))
    mean = labels / len(rows) if rows else 0.0
    said = f"{len(rows):,} prompts, {labels:,} labels ({mean:.2f} a prompt)"
    none = sum(not row.labels for row in rows)
    said += f", {none:,} prompts without any" if none else ""
    said += "".join(f", {count:,} dropped: {reason}" for reason, count in sorted(dropped.items()))
    progress.line(f"{said}; {arguments.out}" if arguments.out else said)


def _listed(row: LabelledPrompt) -> dict[str, Any]:
    labels = {label.key: label.probability for label in row.labels}
    return {"id": row.prompt.id, "prompt": row.prompt.text, "labels": labels}


def _sentence(row: LabelledPrompt) -> str:
    return "; ".join(f"{label.key} {label.probability:.2f}" for label in row.labels)


Write = Callable[[Path, Sequence["LabelledPrompt"], Mapping[str, Any]], None]


def _writer(path: Path | None) -> Write | None:
    """The function that writes this kind of file; checked before any work is done."""
    if path is None:
        return None
    if path.is_dir():
        raise UserError("is a folder, not a file", where=str(path))
    kinds: dict[str, Write] = {".parquet": _write_parquet, ".csv": _write_csv}
    if (write := kinds.get(path.suffix.lower())) is None:
        raise UserError(
            f"is of no known kind ('{path.suffix}')", where=str(path), mend="Use .parquet or .csv"
        )
    return write


def _write_parquet(path: Path, rows: Sequence[LabelledPrompt], about: Mapping[str, Any]) -> None:
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    from misalign_bench.build.export_rows import METADATA

    columns: dict[str, Any] = {
        "id": pa.array([row.prompt.id for row in rows], pa.string()),
        "prompt": pa.array([row.prompt.text for row in rows], pa.string()),
    }
    for place, key in enumerate(_keys()):
        columns[key] = pa.array([row.probabilities[place] for row in rows], pa.float64())
    labels = [[label.key for label in row.labels] for row in rows]
    columns["labels"] = pa.array(labels, pa.list_(pa.string()))
    metadata = {METADATA: json.dumps({"classifier": about}, sort_keys=True)}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)


def _write_csv(path: Path, rows: Sequence[LabelledPrompt], about: Mapping[str, Any]) -> None:
    import json

    from misalign_bench.build.csv_cells import line

    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(line(["id", "prompt", *_keys(), "labels"]))
        for row in rows:
            labels = json.dumps([label.key for label in row.labels], ensure_ascii=False)
            file.write(line([row.prompt.id, row.prompt.text, *row.probabilities, labels]))


def _keys() -> list[str]:
    from misalign_bench.taxonomy.loader import taxonomy

    return [domain.key for domain in taxonomy().domains]
