"""Write a software bill of materials: ``python scripts/sbom.py --out sbom.json``.

CycloneDX 1.6 (ECMA-424) as JSON, from the metadata of what is installed: this distribution, all it
needs here, with versions, licences as their makers state them, and who needs whom. The file has
neither a time nor a serial number, so that the same environment gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

NAME = "misalign-bench"
EXTRAS = ("embedded", "fast", "page")

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?")


def bill(name: str, extras: Iterable[str] = ()) -> dict[str, Any]:
    """The bill of an installed distribution.

    Args:
        name: of the distribution.
        extras: its optional parts that belong to what is described.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    needs = closure(name, extras)
    root = distribution(name)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": component(root, "application"),
            "properties": [
                {"name": "python", "value": f"{sys.version_info.major}.{sys.version_info.minor}"},
                {"name": "extras", "value": ",".join(sorted(extras))},
            ],
        },
        "components": [component(distribution(one)) for one in sorted(needs) if one != plain(name)],
        "dependencies": [
            {
                "ref": reference(distribution(one)),
                "dependsOn": [reference(distribution(other)) for other in sorted(needs[one])],
            }
            for one in sorted(needs)
        ],
    }


def closure(name: str, extras: Iterable[str] = ()) -> dict[str, set[str]]:
    """Every distribution that is needed and installed, with those that it needs itself."""
    found: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(plain(name), extra) for extra in ("", *extras)]
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        one, extra = place
        needs = found.setdefault(one, set())
        for other, wanted in required(distribution(one), extra):
            if not installed(other):  # for another system or version of Python
                continue
            if other != one:
                needs.add(other)
            waiting += [(other, part) for part in ("", *wanted)]
    return found


def required(held: Distribution, extra: str) -> list[tuple[str, tuple[str, ...]]]:
    """Names and extras that a distribution asks for, under one of its own extras or none."""
    asked = []
    for line in held.requires or ():
        need, _, marker = line.partition(";")
        under = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        if (plain(under.group(1)) if under else "") != plain(extra):
            continue
        match = _REQUIREMENT.match(need.strip())
        if match is not None:
            parts = tuple(part.strip() for part in (match[2] or "").split(",") if part.strip())
            asked.append((plain(match[1]), parts))
    return asked


def component(held: Distribution, kind: str = "library") -> dict[str, Any]:
    """One distribution as a component."""
    about: dict[str, Any] = {
        "type": kind,
        "bom-ref": reference(held),
        "name": plain(held.metadata["Name"]),
        "version": held.version,
        "purl": reference(held),
    }
    if summary := said(held, "Summary"):
        about["description"] = " ".join(summary.split())
    if stated := licence(held):
        about["licenses"] = [stated]
    return about


def licence(held: Distribution) -> Mapping[str, Any] | None:
    """What the metadata says: an SPDX expression, a name, or the classifier."""
    if expression := said(held, "License-Expression"):
        return {"expression": expression}
    named = said(held, "License").strip()
    if not named or "\n" in named or len(named) > 100:  # some paste the whole text
        classes = held.metadata.get_all("Classifier") or ()
        classified = [one for one in classes if one.startswith("License")]
        named = classified[0].rpartition(" :: ")[2] if classified else ""
    return {"license": {"name": named}} if named else None


def said(held: Distribution, field: str) -> str:
    """The first value of a field of its metadata, or an empty text."""
    return str((held.metadata.get_all(field) or [""])[0])


def reference(held: Distribution) -> str:
    """The package URL of a distribution."""
    return f"pkg:pypi/{plain(held.metadata['Name'])}@{held.version}"


def plain(name: str) -> str:
    """The name as all spellings of it are compared.

    >>> plain("Ruamel_Yaml.clib")
    'ruamel-yaml-clib'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(name: str) -> bool:
    """Whether this environment has it."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def main() -> int:
    """Write the bill where ``--out`` says."""
    parser = argparse.ArgumentParser(description="Write a software bill of materials.")
    parser.add_argument("--out", type=Path, default=Path("sbom.json"))
    parser.add_argument("--extra", action="append", help=f"default: {', '.join(EXTRAS)}")
    typed = parser.parse_args()
    found = bill(NAME, typed.extra if typed.extra is not None else EXTRAS)
    typed.out.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{typed.out}: {len(found['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
