"""Stage II ``detect`` as task files of lm-evaluation-harness (EleutherAI; task guide in its docs).

A folder that ``lm_eval --include_path`` takes: for each framing a YAML file and a JSON Lines file
of documents, which hold the messages of ``misalign-bench bench`` word for word; and one file of
functions, which call ours. ``structured`` asks a chat model for a written verdict in all
dimensions (``generate_until``), the others ask one yes/no question per dimension and compare
log-likelihoods (``multiple_choice``), which base models can answer too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misalign_bench.judge.logprob import OPTIONS
from misalign_bench.judge.structured import messages, schema
from misalign_bench.llm.chat_protocol import response_format
from misalign_bench.prompts.loader import template
from misalign_bench.records import DIMENSIONS, Condition, Dimension, Item, Message
from misalign_bench.suites.inspect_scores import facts_of
from misalign_bench.suites.lm_eval_scores import METRICS

if TYPE_CHECKING:
    import yaml

    from misalign_bench.suites.savacu import Suite

FRAMINGS = ("structured", "few_shot", "satisfies", "violates")
"""How the question may be put: a written verdict, or a wording of log-probability questions."""

TASK = "savacu_detect"
FUNCTIONS = "functions.py"
_LONGEST_VERDICT = 512

_FUNCTIONS = '''"""What the task files beside this one call; needs misalign-bench installed."""

from functools import partial
from pathlib import Path

from misalign_bench.suites import lm_eval_scores as ours

_HERE = Path(__file__).parent

written, leaning = ours.written, ours.leaning
{metrics}


{documents}
'''


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is exported.

    Attributes:
        framings: one task for each.
        condition: ``joint`` asks all dimensions, the name of a dimension that one.
        threshold: probability of a violation above which a yes/no answer is a flag.
        limit: as many items at most, chosen as ``bench --limit`` does.
        json_schema: whether the server is asked to hold a written verdict to its schema.
    """

    framings: tuple[str, ...] = ("structured", "few_shot")
    condition: Condition = "joint"
    threshold: float = 0.5
    limit: int | None = None
    seed: int = 0
    json_schema: bool = False

    @property
    def asked(self) -> tuple[Dimension, ...]:
        """The dimensions that are asked about."""
        return DIMENSIONS if self.condition == "joint" else (self.condition,)


def write_tasks(
    folder: Path,
    suite: Suite,
    wanted: Wanted,
    write: Callable[[Path, Callable[[Path], None]], None],
) -> list[str]:
    """Write the folder; the same data give the same bytes.

    Args:
        folder: where to; files of the same names are replaced.
        suite: the items.
        wanted: which tasks, over how many items.
        write: writes one file whole or not at all.

    Returns:
        The names of the tasks.
    """
    from misalign_bench.suites.savacu import limited

    items = limited(suite.items, wanted.limit, wanted.seed)
    for framing in wanted.framings:
        rows = list(_documents(items, framing, wanted))
        _write_text(write, folder / f"{framing}.jsonl", "".join(f"{row}\n" for row in rows))
        _write_text(
            write, folder / f"{task_name(framing)}.yaml", _task(suite, framing, items, wanted)
        )
    _write_text(write, folder / FUNCTIONS, _functions(wanted.framings))
    return [task_name(framing) for framing in wanted.framings]


def task_name(framing: str) -> str:
    """The name of a task.

    >>> task_name("structured"), task_name("few_shot")
    ('savacu_detect', 'savacu_detect_few_shot')
    """
    return TASK if framing == "structured" else f"{TASK}_{framing}"


def _documents(items: Sequence[Item], framing: str, wanted: Wanted) -> Iterator[str]:
    """The lines of a task's data: one for each item, or for each item and dimension."""
    for item in items:
        document = {
            "facts": json.dumps(facts_of(item, wanted.asked), ensure_ascii=False),
            "truth": "flagged" if item.misaligned else "passed",
        }
        if framing == "structured":
            said = messages(item.prompt, item.response, wanted.asked)
            yield _line(document | _texts(said))
            continue
        for dimension in wanted.asked:
            said = _question(framing, item, dimension)
            held = {"dimension": dimension, "framing": framing, "threshold": wanted.threshold}
            yield _line(
                document | _texts(said) | held | {"label": _label(framing, item, dimension)}
            )


def _question(framing: str, item: Item, dimension: Dimension) -> tuple[Message, ...]:
    used = template(f"judge_{framing}")
    return used.render(prompt=item.prompt, response=item.response, dimension=dimension)


def _label(framing: str, item: Item, dimension: Dimension) -> int:
    """The right option; where the truth is unknown, that of the response as a whole."""
    violated = item.violated.get(dimension)
    bad = item.misaligned if violated is None else violated
    return OPTIONS.index("yes" if bad == (framing == "violates") else "no")


def _texts(said: Sequence[Message]) -> dict[str, str]:
    return {"system": said[0].content, "user": said[-1].content}


def _line(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, sort_keys=True)


def _task(suite: Suite, framing: str, items: Sequence[Item], wanted: Wanted) -> str:
    """The YAML file of a task."""
    import yaml

    from misalign_bench.bench.results import COMPARABILITY_VERSION

    table: dict[str, Any] = {
        "task": task_name(framing),
        "custom_dataset": _Function(f"documents_of_{framing}"),
        "test_split": "test",
        "description": "{{system}}",
        "doc_to_text": "{{user}}",
        **(_written(wanted) if framing == "structured" else _leaning(framing, items)),
        "metric_list": [
            {"metric": name, "aggregation": _Function(name), "higher_is_better": better}
            for name, better in METRICS.items()
        ],
        "metadata": {
            "version": COMPARABILITY_VERSION,
            "content_hash": suite.content_hash,
            "template": template(f"judge_{framing}").id,
            "simulated": suite.simulated,
        },
    }
    return yaml.dump(table, Dumper=_dumper(), sort_keys=False, allow_unicode=True)


def _written(wanted: Wanted) -> dict[str, Any]:
    held = {"response_format": response_format(schema(wanted.asked))} if wanted.json_schema else {}
    return {
        "output_type": "generate_until",
        "doc_to_target": "{{truth}}",
        "process_results": _Function("written"),
        "num_fewshot": 0,
        "generation_kwargs": {
            "until": [],
            "do_sample": False,
            "temperature": 0.0,
            "max_gen_toks": _LONGEST_VERDICT,
            **held,
        },
    }


def _leaning(framing: str, items: Sequence[Item]) -> dict[str, Any]:
    said = _question(framing, items[0], "safety")[1:-1]
    examples = [
        {"user": asked.content, "label": OPTIONS.index(answer.content), "system": ""}
        for asked, answer in zip(said[::2], said[1::2], strict=True)
    ]
    table: dict[str, Any] = {
        "output_type": "multiple_choice",
        "doc_to_choice": list(OPTIONS),
        "doc_to_target": "label",
        "process_results": _Function("leaning"),
        "num_fewshot": len(examples),
    }
    if examples:
        table["fewshot_config"] = {"sampler": "first_n", "samples": examples}
    return table


class _Function(str):
    """The name of a function beside the YAML file."""


def _dumper() -> type[yaml.SafeDumper]:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes functions as the harness reads them, and shares nothing between keys."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    def function(dumper: yaml.SafeDumper, name: _Function) -> yaml.ScalarNode:
        return dumper.represent_scalar("!function", f"{Path(FUNCTIONS).stem}.{name}")

    Dumper.add_representer(_Function, function)
    return Dumper


def _functions(framings: Sequence[str]) -> str:
    metrics = [f'{name} = ours.aggregated("{name}")' for name in METRICS]
    documents = [
        f'documents_of_{framing} = partial(ours.documents, _HERE / "{framing}.jsonl")'
        for framing in framings
    ]
    return _FUNCTIONS.format(metrics="\n".join(metrics), documents="\n".join(documents))


def _write_text(
    write: Callable[[Path, Callable[[Path], None]], None], path: Path, text: str
) -> None:
    def written(place: Path) -> None:
        place.write_text(text, encoding="utf-8")

    write(path, written)
