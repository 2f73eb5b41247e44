"""What a server's prefix cache pays of ``joint``: the definitions once, then only the prompts.

``python benchmarks/classification/prefix_reuse.py --prompts 12`` starts llama.cpp's own server on
loopback with an embedded model (port by the system, ended with the process), classifies prompts of
``demo_prompts.jsonl`` through ``openai/`` over it, and puts the server's metrics (prompt tokens
that were computed, ``/metrics``) beside the tokens that were sent (the journal). The result goes to
``results.json`` under ``prefix_reuse``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
import urllib.request
from importlib import resources
from pathlib import Path
from typing import Any

from misalign_bench.cli.main import main as misalign_bench
from misalign_bench.journal.store import Journal
from misalign_bench.llm.embedded import Recipe, parameters
from misalign_bench.llm.weights import cached

RESULTS = Path(__file__).parent / "results.json"
COUNTERS = ("prompt_tokens_total", "prompt_seconds_total", "tokens_predicted_total")


def main() -> None:
    """Measure and merge into the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=12, metavar="N")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--context", type=int, default=4096)
    arguments = parser.parse_args()
    found = measure(arguments.model, arguments.prompts, arguments.context)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results["prefix_reuse"] = found
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    json.dump(found, sys.stdout, indent=1)


def measure(name: str, prompts: int, context: int) -> dict[str, Any]:
    """Classify over a server of our own; what was sent, and what the server computed."""
    import xllamacpp

    weights = cached(name)
    if weights is None:
        raise SystemExit(f"{name} is not cached: misalign-bench weights get {name}")
    settings = parameters(Recipe(weights, 1, context, deterministic=False))
    settings.endpoint_metrics = True
    settings.hostnames, settings.port = ["127.0.0.1"], 0
    server = xllamacpp.Server(settings)
    url = server.listening_address
    before, started = _metrics(url), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        sent = _classify(f"openai/{name}@{url}/v1", Path(folder), prompts)
    after = _metrics(url)
    computed = {key: after[key] - before[key] for key in COUNTERS}
    return sent | {
        "model": name,
        "server": f"llama.cpp by xllamacpp {xllamacpp.__version__}, one slot",
        "seconds": round(time.monotonic() - started, 1),
        "prompt_tokens_computed": round(computed["prompt_tokens_total"]),
        "prompt_seconds": round(computed["prompt_seconds_total"], 1),
        "tokens_written": round(computed["tokens_predicted_total"]),
    }


def _classify(model: str, folder: Path, prompts: int) -> dict[str, Any]:
    """One run of the command; tokens sent, and those that the server said it reused."""
    os.environ.setdefault("OPENAI_API_KEY", "none")
    source = resources.files("misalign_bench.configs").joinpath("demo_prompts.jsonl")
    (folder / "prompts.jsonl").write_text(source.read_text("utf-8"), encoding="utf-8")
    command = ["classify", str(folder / "prompts.jsonl"), "--method", "joint", "--model", model]
    command += ["--limit", str(prompts), "--out", str(folder / "labels.csv"), "--quiet"]
    if code := misalign_bench(command):
        raise SystemExit(code)
    with Journal.open(next(folder.glob("*.run/journal.sqlite")), read_only=True) as journal:
        calls = list(journal.entries())
    return {
        "prompts": prompts,
        "calls": len(calls),
        "prompt_tokens_sent": sum(call.input_tokens for call in calls),
        "prompt_tokens_cached": sum(call.cached_tokens for call in calls),
        "statuses": sorted({call.status for call in calls}),
    }


def _metrics(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r"^llamacpp:(\w+) ([0-9.eE+-]+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


if __name__ == "__main__":
    main()
