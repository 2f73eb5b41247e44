"""The compiled path of ``fingerprint``: the same codes as the NumPy path, one text at a time.

A text stays in the processor's first cache from its letters to its code: ASCII is normalised as
``normalise`` says, windows are hashed as ``features`` says, repeated hashes are dropped by a small
open-addressing table, and all 64 bits are counted together in vertical counters (bit b of plane p
is bit p of the count of bit b).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.fast import compiled
from misalign_bench.simhash.features import SEED

_Array = npt.NDArray[Any]

_U = np.uint64
_ZERO, _ONE = _U(0), _U(1)
_SEED = _U(SEED)
_POINT_BITS = _U(21)
_SPACE = _U(32)
_PLANES = 40
_WORD = np.array(
    [
        ord(chr(byte).lower()) if chr(byte).isalnum() or byte == ord("_") else 0
        for byte in range(128)
    ],
    dtype=np.uint64,
)
_WHITE = np.array([chr(byte).isspace() for byte in range(128)], dtype=np.bool_)


@compiled
def _mix(word: np.uint64) -> Any:
    word += _U(0x9E3779B97F4A7C15)
    word = (word ^ (word >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> _U(27))) * _U(0x94D049BB133111EB)
    return word ^ (word >> _U(31))


@compiled
def _table(longest: int) -> _Array:
    """Return room for twice as many hashes as the longest text can have, a power of two."""
    capacity = 16
    while capacity < 2 * longest:
        capacity *= 2
    return np.empty(capacity, dtype=np.uint64)


@compiled
def _normal_ascii(letters: _Array, points: _Array) -> int:
    """Write an ASCII text's normalised form and return its length."""
    count = 0
    gap = False
    for letter in letters:
        lowered = _WORD[letter]
        if lowered == _ZERO:
            gap = count > 0
        else:
            if gap:
                points[count] = _SPACE
                count += 1
                gap = False
            points[count] = lowered
            count += 1
    if count > 0:
        return count
    for letter in letters:  # no word at all: the signs stay
        if _WHITE[letter]:
            gap = count > 0
        else:
            if gap:
                points[count] = _SPACE
                count += 1
                gap = False
            points[count] = letter
            count += 1
    return count


@compiled
def _hash_characters(points: _Array, count: int, size: int, hashes: _Array) -> int:
    """Hash each window of a text, which has at least one character."""
    while count < size:
        points[count] = _ZERO
        count += 1
    windows = count - size + 1
    state = hashes[:windows]
    for k in range(windows):
        state[k] = _SEED
    for at in range(0, size, 2):
        low = points[at : at + windows]
        if at + 1 < size:
            high = points[at + 1 : at + 1 + windows]
            for k in range(windows):
                state[k] = _mix(state[k] ^ (low[k] | (high[k] << _POINT_BITS)))
        else:
            for k in range(windows):
                state[k] = _mix(state[k] ^ low[k])
    return windows


@compiled
def _hash_words(points: _Array, count: int, size: int, hashes: _Array) -> int:
    """Hash each window of words; the hashes of single words are overwritten on the way."""
    words = 0
    position = total = _ZERO
    for k in range(count):
        if points[k] == _SPACE:
            hashes[words] = _mix(total)
            words += 1
            position = total = _ZERO
        else:
            total += _mix((points[k] | (position << _POINT_BITS)) ^ _SEED)
            position += _ONE
    hashes[words] = _mix(total)
    words += 1
    windows = max(1, words - size + 1)
    for k in range(windows):
        state = _SEED
        for at in range(k, min(k + size, words)):
            state = _mix(state ^ hashes[at])
        hashes[k] = state
    return windows


@compiled
def _distinct(hashes: _Array, count: int, table: _Array) -> int:
    """Move the distinct hashes to the front and return how many there are."""
    capacity = 16
    while capacity < 2 * count:
        capacity *= 2
    slots = table[:capacity]
    slots[:] = _ZERO
    last = _U(capacity - 1)
    seen_zero = False
    kept = 0
    for k in range(count):
        value = hashes[k]
        if value == _ZERO:  # in the table, zero is an empty slot
            new = not seen_zero
            seen_zero = True
        else:
            slot = value & last
            while slots[slot] != _ZERO and slots[slot] != value:
                slot = (slot + _ONE) & last
            new = slots[slot] == _ZERO
            slots[slot] = value
        if new:
            hashes[kept] = value
            kept += 1
    return kept


@compiled
def _majority(hashes: _Array, count: int, planes: _Array) -> Any:
    """Return the bits that more than half of the hashes have set."""
    planes[:] = _ZERO
    depth = 0
    for k in range(count):
        carry = hashes[k]
        plane = 0
        while carry != _ZERO:
            before = planes[plane]
            planes[plane] = before ^ carry
            carry &= before
            plane += 1
        depth = max(depth, plane)
    half = _U(count // 2)
    more, equal = _ZERO, ~_ZERO
    for plane in range(max(depth, 33) - 1, -1, -1):
        of_half = -((half >> _U(plane)) & _ONE)
        more |= equal & planes[plane] & ~of_half
        equal &= ~(planes[plane] ^ of_half)
    return more


@compiled
def _code(
    points: _Array,
    count: int,
    words: bool,
    size: int,
    once: bool,
    hashes: _Array,
    table: _Array,
    planes: _Array,
) -> Any:
    if count == 0:
        return _ZERO
    if words:
        found = _hash_words(points, count, size, hashes)
    else:
        found = _hash_characters(points, count, size, hashes)
    if once:
        found = _distinct(hashes, found, table)
    return _majority(hashes, found, planes)


@compiled
def codes_of(
    letters: _Array,
    lengths: _Array,
    raw: bool,
    words: bool,
    size: int,
    once: bool,
    codes: _Array,
) -> None:
    """Write the code of each of some texts, which stand one after the other.

    Args:
        letters: ASCII texts as they are (``raw``), or code points of normalised texts.
        lengths: of each text.
        raw: whether the texts are to be normalised.
        words: whether features are words.
        size: characters or words in a feature.
        once: whether a feature counts once.
        codes: receives the codes.
    """
    longest = lengths.max() if lengths.size else 0
    points = np.empty(longest + size, dtype=np.uint64)
    hashes, table = np.empty(longest + size, dtype=np.uint64), _table(longest)
    planes = np.empty(_PLANES, dtype=np.uint64)
    start = 0
    for text in range(lengths.size):
        stop = start + lengths[text]
        count = stop - start
        if raw:
            count = _normal_ascii(letters[start:stop], points)
        else:
            for k in range(count):
                points[k] = letters[start + k]
        codes[text] = _code(points, count, words, size, once, hashes, table, planes)
        start = stop
