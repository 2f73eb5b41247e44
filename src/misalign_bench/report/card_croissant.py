"""``croissant.json``: the data set described for machines (MLCommons Croissant 1.0).

Files with their hashes, and for every configuration and split the columns that hold plain values
or lists of them; columns with fields of their own are told by Parquet itself.
"""

from __future__ import annotations

import json
from typing import Any

from misalign_bench.build.export import DataFile, Summary
from misalign_bench.build.export_rows import columns
from misalign_bench.report.visible import visible

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {
    "text": ("sc:Text", False),
    "texts": ("sc:Text", True),
    "number": ("sc:Integer", False),
    "flag": ("sc:Boolean", False),
    "score": ("sc:Float", False),
    "scores_list": ("sc:Float", True),
}


def croissant(summary: Summary) -> str:
    """Return the metadata as JSON."""
    settings = summary.settings
    described = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": visible(settings.name),
        "description": (
            "Prompts labelled over safety, value and culture domains, each with an aligned and a "
            "misaligned response, made by Mis-Align Bench. Contains harmful text."
        ),
        "license": visible(settings.export.licence) or "other",
        "citeAs": "arXiv:2602.11305",
        "url": "https://arxiv.org/abs/2602.11305",
        "distribution": [_file(file) for file in summary.files],
        "recordSet": [_records(file) for file in summary.files],
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def _file(file: DataFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": file.sha256,
    }


def _records(file: DataFile) -> dict[str, Any]:
    name = f"{file.configuration}_{file.split}"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            _field(file, name, column, kind)
            for column, kind in columns(file.configuration).items()
            if kind in _TYPES
        ],
    }


def _field(file: DataFile, records: str, column: str, kind: str) -> dict[str, Any]:
    data_type, repeated = _TYPES[kind]
    return {
        "@type": "cr:Field",
        "@id": f"{records}/{column}",
        "name": f"{records}/{column}",
        "dataType": data_type,
        **({"repeated": True} if repeated else {}),
        "source": {"fileObject": {"@id": file.path}, "extract": {"column": column}},
    }
