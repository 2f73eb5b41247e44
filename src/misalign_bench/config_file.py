"""One YAML file is one run: read, checked, its paths resolved.

``configs/paper.yaml`` is faithful to arXiv 2602.11305, ``configs/default.yaml`` is what we
recommend, ``configs/demo.yaml`` what ``misalign-bench demo`` runs.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from misalign_bench.config import ClassifySettings, RunSettings
from misalign_bench.config_model import Settings, with_folders
from misalign_bench.errors import UserError

LARGEST = 1_000_000
"""Bytes of a configuration file."""
DEEPEST = 40
MOST_VALUES = 50_000

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
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise UserError(
            "no such configuration", where=str(source), mend=f"Shipped ones: {', '.join(SHIPPED)}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error}", where=str(source)) from None
    try:
        table = read_yaml(content)
    except UnicodeDecodeError as error:
        raise UserError(f"cannot be read: {error}", where=str(source)) from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"not valid YAML: {error}", where=str(source)) from None
    return parse(table, where=str(source), folder=path.parent)


def read_yaml(content: bytes) -> Any:
    """What a YAML file holds, read by the safe loader within limits.

    Size, depth and number of values are bounded, and an alias counts as all that it stands for, so
    that a small file cannot become a large table.

    Raises:
        YAMLError: no YAML, a key twice in one table, or over a limit.
        ValueError: a value that its type does not know, such as the 31st of February; no UTF-8.
    """
    import yaml

    if len(content) > LARGEST:
        raise yaml.YAMLError(f"it is longer than {LARGEST:,} bytes")
    loader = _strict_loader()(content.decode("utf-8-sig"))
    try:
        return loader.get_single_data()
    except (TypeError, AttributeError, LookupError, OverflowError) as error:
        # What the loader's constructors raise for some malformed values.
        raise yaml.YAMLError(f"a value cannot be read ({error})") from None
    finally:
        loader.dispose()


def _strict_loader() -> Any:
    """The safe loader with limits; a key that stands twice in a table is an error too."""
    import yaml

    class Strict(yaml.SafeLoader):
        """Refuses duplicate keys, and what is deeper or holds more values than a configuration."""

        def __init__(self, text: str) -> None:
            super().__init__(text)
            self._depth = self._values = 0
            self._held: dict[int, int] = {}

        def compose_node(self, parent: Any, index: Any) -> Any:
            """Count a value before what is in it is composed, and an alias as what it names."""
            self._depth += 1
            if self._depth > DEEPEST:
                raise yaml.YAMLError(f"it is nested more than {DEEPEST} deep")
            before = self._values
            node = super().compose_node(parent, index)
            self._depth -= 1
            # An alias gives the node that was counted before, or one that is not complete yet.
            known = self._held.get(id(node))
            self._values += 1 if known is None else known
            if self._values > MOST_VALUES:
                raise yaml.YAMLError(f"it holds more than {MOST_VALUES:,} values")
            self._held.setdefault(id(node), self._values - before)
            return node

    def mapping(loader: Any, node: Any) -> Any:
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        try:
            twice = [key for key, count in Counter(keys).items() if count > 1]
        except TypeError:
            raise yaml.YAMLError("a key of a table is a list or a table") from None
        for key in twice:
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
    update["classify"] = _labelling_in(folder, settings.classify)
    if (written := settings.expand.classify) is not None:
        moved = _labelling_in(folder, written)
        update["expand"] = settings.expand.model_copy(update={"classify": moved})
    role = settings.roles.classifier
    embedder = role.model_copy(update={"model": _embedder_in(folder, role.model)})
    update["roles"] = settings.roles.model_copy(update={"classifier": embedder})
    return settings.model_copy(update=update)


def _labelling_in(folder: Path, classify: ClassifySettings) -> ClassifySettings:
    update = {"embedder": _embedder_in(folder, classify.embedder)}
    if classify.head:
        update["head"] = str(folder / classify.head)
    return classify.model_copy(update=update)


def _embedder_in(folder: Path, name: str) -> str:
    """The name with the folders of ``onnx/FOLDER`` as seen from here."""
    return with_folders(name, lambda held: str(folder / held))


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
