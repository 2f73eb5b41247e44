"""One YAML file is one run: read, checked, its paths resolved.

``configs/paper.yaml`` is faithful to arXiv 2602.11305, ``configs/default.yaml`` is what we
recommend, ``configs/demo.yaml`` what ``misalign-bench demo`` runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from misalign_bench.config import RunSettings, Settings
from misalign_bench.errors import UserError

SHIPPED = ("default", "paper", "demo", "demo-small")


def load(source: str | Path) -> RunSettings:
    """Read a configuration: a YAML file, or the name of a shipped one (``default``, ``demo`` …).

    ``source.path`` comes back resolved against the file's folder.

    Raises:
        UserError: missing or unreadable file, broken YAML, unknown key, value out of range.
    """
    import yaml

    path = locate(source)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            "no such configuration", where=str(source), mend=f"Shipped ones: {', '.join(SHIPPED)}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(source)) from None
    try:
        table = yaml.load(text, _strict_loader())
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {error}", where=str(source)) from None
    return parse(table, where=str(source), folder=path.parent)


def _strict_loader() -> Any:
    """The safe loader, but a key that stands twice in a table is an error, not a silent choice."""
    import yaml

    class Strict(yaml.SafeLoader):
        """Refuses duplicate keys."""

    def mapping(loader: Any, node: Any) -> Any:
        keys = [loader.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} stands twice in one table")
        return loader.construct_mapping(node, deep=True)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return Strict


def locate(source: str | Path) -> Path:
    """The file that a configuration argument names."""
    if str(source) in SHIPPED:
        return Path(__file__).parent / "configs" / f"{source}.yaml"
    return Path(source)


def parse(table: Any, *, where: str, folder: Path) -> RunSettings:
    """Check a configuration table; ``where`` names it in errors.

    Raises:
        UserError: the first few things that are wrong with it, in one line.
    """
    if not isinstance(table, dict):
        raise UserError("a configuration is a table of settings", where=where)
    try:
        settings = RunSettings.model_validate(table)
    except ValidationError as error:
        raise UserError(explain(error), where=where) from None
    update: dict[str, Settings] = {}
    if settings.source.path:
        # Joined with a folder, an absolute path stays what it is.
        path = str(folder / settings.source.path)
        update["source"] = settings.source.model_copy(update={"path": path})
    if settings.classify.head:
        head = str(folder / settings.classify.head)
        update["classify"] = settings.classify.model_copy(update={"head": head})
    return settings.model_copy(update=update)


def explain(error: ValidationError) -> str:
    """One line for a pydantic error: ``respond.draws: Input should be …; …`` (at most three)."""
    parts = []
    for problem in error.errors()[:3]:
        place = ".".join(str(part) for part in problem["loc"])
        message = str(problem["msg"]).removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key"
        parts.append(f"{place}: {message}" if place else message)
    return "; ".join(parts)
