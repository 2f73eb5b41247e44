"""The files that ``fuzz.py`` gives to readers: sound ones with odd values, and damaged ones.

Damage to bytes seldom gets past the first check of a format with checksums or a grammar. So a
configuration and a head are also bent in their structure: a real one, with one to three values in
it replaced, dropped or moved, and written as it should be.
"""

from __future__ import annotations

import copy
import functools
import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from misalign_bench.build.classify import head
from misalign_bench.config import RunSettings
from misalign_bench.taxonomy.loader import taxonomy

WORDS = ("prompt", "How do I boil an egg?", "caf\u00e9 \u202e\u0000", '"', "'=1+1", "\r", "[" * 99)
LABELS = (
    "",
    "value/Honesty",
    "value/Honesty;culture/Dance",
    "[]",
    "[[",
    "nobody",
    ";",
    "[" * 9_999,
)
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 10**400, 1e308, 5e-324, float("nan"), float("inf"), [], {}, [[[]]]),
    *("", "x", "1", "\u202e\u0000", "/dev/zero", "../..", "a" * 5_000, [1] * 50),
    *("openai/m@http://[::", "embedded/", "onnx/", "embedded/minilm+onnx/case.csv"),
    *({"model": "simulated/judge"}, {"path": "case.csv"}),
)
"""Values that stand where others are meant to."""


def sound(kind: str, draw: random.Random) -> bytes:
    """A file of this kind that is well formed, odd as its values may be."""
    ending = kind.partition(" ")[0]
    rows = [_row(kind, draw) for _ in range(draw.randint(1, 30))]
    if ending == ".jsonl":
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    if ending == ".csv":
        lines = [",".join(f'"{value}"' for value in row.values()) for row in rows]
        return "\n".join([",".join(rows[0]), *lines]).encode()
    if ending == ".txt":
        return "\n".join(str(row["prompt"]) for row in rows).encode()
    if ending == ".parquet":
        return _parquet(rows, draw)
    if ending == ".yaml":
        return bent_configuration(draw) if draw.random() < 0.6 else _configuration(draw)
    return bent_head(draw) if draw.random() < 0.6 else _archive(draw)


def _row(kind: str, draw: random.Random) -> dict[str, Any]:
    # A file with an odd text in every row would be refused for its first row.
    odd = draw.random() < 0.1
    prompt = draw.choice(WORDS) * draw.randint(0, 4) if odd else f"Egg {draw.randint(0, 99)}?"
    if "items" in kind:
        response = draw.choice(WORDS) if odd else "Six minutes."
        return {"prompt": prompt, "response": response, "misaligned": draw.random() < 0.5}
    labels = draw.choice(LABELS if odd else LABELS[:3])
    return {"prompt": prompt.replace('"', ""), "id": draw.randint(0, 9), "labels": labels}


def _parquet(rows: list[dict[str, Any]], draw: random.Random) -> bytes:
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    odd_ones = draw.sample(_odd_arrays(len(rows), draw), draw.choice((0, 0, 1, 2)))
    for number, odd in enumerate(odd_ones):
        columns[draw.choice(("prompt", "violated", f"odd {number}"))] = odd
    written = {
        "compression": draw.choice(("none", "snappy", "zstd", "gzip")),
        "use_dictionary": draw.random() < 0.5,
        "row_group_size": draw.choice((1, 7, 10_000)),
        "data_page_version": draw.choice(("1.0", "2.0")),
    }
    out = io.BytesIO()
    try:
        pq.write_table(pa.table(columns), out, **written)
    except pa.ArrowException:  # too odd to be written at all
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), out, **written)
    return out.getvalue()


def _odd_arrays(length: int, draw: random.Random) -> list[Any]:
    """Columns that Arrow holds and Python cannot always: far dates, odd zones, broken text."""
    large = draw.choice((2**62, -(2**62), 2**40))
    raw = pa.array([b"\xff\xfe"] * length, pa.binary())
    return [
        pa.array([large] * length, pa.int64()).cast(pa.timestamp(draw.choice(("s", "us", "ns")))),
        pa.array([large] * length, pa.int64()).cast(pa.timestamp("us", "Nowhere/City")),
        pa.array([large] * length, pa.int64()).cast(pa.duration("s")),
        pa.array([2**31 - 1] * length, pa.int32()).cast(pa.date32()),
        pa.Array.from_buffers(pa.string(), length, raw.buffers()),
        pa.array([[[{"a": None}]]] * length),
        pa.array([None] * length, pa.null()),
        pa.array([float("nan")] * length),
        pa.array(["x" * draw.choice((1, 100_000))] * length).dictionary_encode(),
        pa.array([{"safety": True, "value": None}] * length),
    ]


def _configuration(draw: random.Random) -> bytes:
    seeds = (
        "name: a\nseed: 7\nsource: {path: prompts.csv}\nrespond: {draws: 3}\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "seed: 2024-13-45\nname: 0b_\nx: !!binary 'x'\ny: !!timestamp z\n",
        "? [a]\n: {<<: *x}\n--- \n&x {a: *x}\n",
        "[" * draw.randint(1, 5_000) + "\n" + "a: {" * draw.randint(0, 2_000),
        "seed: " + "9" * draw.randint(1, 9_000) + "\nname: .inf\n",
    )
    return draw.choice(seeds).encode() * draw.randint(1, 3)


def _archive(draw: random.Random) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("manifest", "landmarks", "terms", "bias", "seen", "../../outside"):
            held = io.BytesIO()
            kind = draw.choice(("<u8", "<f8", "|u1", "<U4", "<f2"))
            np.lib.format.write_array(held, np.zeros(draw.randint(0, 50)).astype(kind))
            body = held.getvalue()
            if draw.random() < 0.3:  # a header that promises more than there is
                shape = str(draw.choice((10**12, 10**9, -1, 10**30))).encode()
                body = body.replace(b"(", b"(" + shape + b", ", 1)
            archive.writestr(f"{name}.npy", body)
    return out.getvalue()


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The file with a few things done to it that happen to files, or that somebody does."""
    held = bytearray(content)
    for _ in range(draw.choice((0, 0, 1, 1, 1, 2, 5, 20))):
        if not held:
            break
        place = draw.randrange(len(held))
        if draw.random() < 0.5:  # the end of a Parquet or zip file says what is in it
            place = max(0, len(held) - 1 - draw.randrange(min(len(held), 600)))
        end = min(len(held), place + draw.choice((1, 4, 30, 1_000)))
        match draw.randrange(6):
            case 0:
                held[place] ^= 1 << draw.randrange(8)
            case 1:
                held[place:end] = draw.randbytes(end - place)
            case 2:
                del held[place:end]
            case 3:
                held[place:place] = held[place:end] * draw.choice((1, 2, 50))
            case 4:
                held[place:end] = draw.choice((b"\xff", b"\0", b"\x7f")) * (end - place)
            case _:
                held = held[:place] if draw.random() < 0.3 else held
    return bytes(held)


def bent_configuration(draw: random.Random) -> bytes:
    """A whole configuration, every setting written out, with a few of them bent."""
    table = bent(json.loads(_settings()), draw)
    try:
        return yaml.safe_dump(table, allow_unicode=draw.random() < 0.5).encode()
    except (ValueError, yaml.YAMLError):  # a number too long to be written
        return _settings().encode()


@functools.cache
def _settings() -> str:
    roles = {"classifier": "simulated/classifier", "generators": ["simulated/generator"]}
    table = {"source": {"path": "case.csv"}, "roles": {**roles, "evaluator": "simulated/judge"}}
    return RunSettings.model_validate(table).model_dump_json()


def bent_head(draw: random.Random) -> bytes:
    """A head as ``fit`` writes it, with a few of its arrays or of its manifest's values bent."""
    arrays = _head_arrays()
    for _ in range(draw.randint(0, 2)):
        name = draw.choice(sorted(arrays))
        arrays[name] = _bent_array(arrays[name], draw)
    about = _manifest()
    if draw.random() < 0.7:
        about = bent(about, draw)
    text = "[" * 100_000 if draw.random() < 0.02 else json.dumps(about)
    arrays["manifest"] = np.frombuffer(text.encode(), np.uint8)
    out = io.BytesIO()
    np.savez_compressed(out, allow_pickle=False, **arrays)
    return out.getvalue()


def _head_arrays() -> dict[str, Any]:
    """Two landmarks of four numbers, three terms, two prompts that were seen."""
    classes = max(group.stop for group in head.groups().values())
    return {
        "landmarks": np.full((2, 4), 0.5, np.float16),
        "terms": np.array([5, 9, 4_000_000_000], np.uint32),
        "term_weights": np.ones(3, np.float32),
        "bias": np.linspace(-3, 3, classes).astype(np.float32),
        "dense": np.full((6, classes), 0.1, np.float16),
        "sparse": np.full((3, classes), 0.1, np.float16),
        "seen": np.array([7, 2**63], np.uint64),
        "out_of_fold": np.full((2, len(taxonomy().domains)), 100, np.uint16),
    }


def _manifest() -> dict[str, Any]:
    names = list(head.spans())
    curve = {"kind": "isotonic", "given": [0.1, 0.9], "found": [0.0, 1.0]}
    straight = {"kind": "temperature", "temperature": 1.1, "shift": 0.2}
    return {
        "format": head.FORMAT,
        "taxonomy": taxonomy().digest,
        "scaling": {names[0]: curve, **dict.fromkeys(names[1:], straight)},
        "delta": dict.fromkeys(names, 0.3),
        "out_of_fold": {name: {"one_label": {"delta": 0.3}} for name in names},
        "embedder": {"name": "embedded/minilm", "identity": "minilm onnxruntime"},
    }


def _bent_array(array: Any, draw: random.Random) -> Any:
    extreme = draw.choice((np.nan, np.inf, -np.inf, 65_000, -65_000, 3e38, 2**32 - 1, 0, -1))
    changes: tuple[Callable[[], Any], ...] = (
        lambda: array.astype(draw.choice(("<f8", "<i8", "<U9", "?"))),
        lambda: array[::-1],
        lambda: array[:-1],
        lambda: array[:0],
        lambda: np.concatenate([array, array]),
        lambda: array.reshape(-1),
        lambda: np.asfortranarray(array),
        lambda: np.where(np.arange(array.size).reshape(array.shape) % 3, array, extreme),
    )
    with np.errstate(all="ignore"):
        held = draw.choice(changes)()
        # Mostly of the type it should have, so that more than the type is looked at.
        return held.astype(array.dtype) if draw.random() < 0.8 else held


def bent(value: Any, draw: random.Random) -> Any:
    """A JSON value in which one to three parts are odd, missing, moved or repeated."""
    held = {"": value}
    for _ in range(draw.randint(1, 3)):
        (place, key), (other, other_key) = draw.choices(_places(held), k=2)
        match draw.randrange(5):
            case 0 if isinstance(place, dict) and key:
                del place[key]
            case 1:
                place[key] = copy.deepcopy(other[other_key])
            case 2 if isinstance(place[key], dict):
                place[key][draw.choice(("x", "seed", "model", "\u202e"))] = draw.choice(ODD)
            case 3:
                place[key] = [place[key]] * draw.randint(1, 3)
            case _:
                place[key] = draw.choice(ODD)
        held = copy.deepcopy(held)
    return held.get("")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, one in inside:
        found.append((value, key))
        if isinstance(one, dict | list):
            found += _places(one)
    return found
