"""Who runs at which size: the jobs of a benchmark, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

WARM_OURS, WARM_PEER = 12_000, 300
"""Rows of the first call: enough for the compiled path, few enough for a peer."""

Group = Literal["fingerprints", "joins", "pairs"]


@dataclass(frozen=True)
class Job:
    """One contender at one size.

    Attributes:
        group: what is measured: texts to codes, codes to pairs, or texts to similar pairs.
        name: the contender, as its module calls it.
        module: the module that has it.
        table: the mapping in that module.
        peer: whether it runs in the peers' environment.
        without: imports that are made to fail, for the paths that do without them.
        uniform: whether the codes are random ones in place of those of texts.
        whole: whether it must finish, whatever the budget, because others are checked against it.
    """

    group: Group
    name: str
    module: str
    table: str = "CONTENDERS"
    peer: bool = True
    without: tuple[str, ...] = ()
    uniform: bool = False
    whole: bool = False

    @property
    def title(self) -> str:
        """The name in the tables."""
        remark = ", NumPy alone" if self.without else ", uniform codes" if self.uniform else ""
        return self.name + remark


def jobs(size: int) -> Iterator[Job]:
    """Yield the jobs of a size."""
    yield from _fingerprints(size)
    yield from _joins(size)
    if size <= 30_000:
        yield Job("pairs", "ours, verified", "ours", "PAIRS", peer=False)
        for name in ("datasketch MinHashLSH", "rensa RMinHashLSH"):
            yield Job("pairs", name, "peer_minhash")


def _fingerprints(size: int) -> Iterator[Job]:
    if size > 1_000_000:
        return
    ours = Job("fingerprints", "ours", "ours", "FINGERPRINTS", peer=False)
    yield ours
    if size > 300_000:
        return
    yield Job("fingerprints", "ours", "ours", "FINGERPRINTS", peer=False, without=("numba",))
    for name in (
        "simhash",
        "text-dedup's loop",
        "datasketch MinHash, 128",
        "rensa R-MinHash, 128",
    ):
        yield Job("fingerprints", name, "peer_fingerprints")


def _joins(size: int) -> Iterator[Job]:
    ours = Job("joins", "ours", "ours", "JOINS", peer=False)
    if size >= 1_000_000:
        streamed = Job("joins", "ours, streamed", "ours", "JOINS", peer=False)
        yield streamed
        yield replace(streamed, uniform=True)
    if size > 1_000_000:
        return
    # First, because its pairs are what the others are checked against.
    yield Job("joins", "separate brute force", "brute", peer=False, whole=True)
    yield ours
    yield Job("joins", "ours by brute force", "ours", "JOINS", peer=False)
    if size <= 300_000:
        yield Job("joins", "ours", "ours", "JOINS", peer=False, without=("numba",))
    yield Job("joins", "faiss BinaryFlat", "peer_joins")
    yield Job("joins", "faiss BinaryMultiHash", "peer_joins")
    if size <= 300_000:
        yield Job("joins", "SimhashIndex", "peer_joins")
        yield Job("joins", "text-dedup's loop", "peer_joins")
