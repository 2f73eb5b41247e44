"""What the simulated models say: judge, generator, expander, classifier, echo.

They read marks that stand in the text, so that a whole pipeline runs with a known truth:
``[[violates:safety,value]]`` in a response (``[[violates:]]`` for none; the generator writes it)
and ``[[labels:Honesty|Dance]]`` in a prompt (the expander writes it). A generator that has learned
to please writes ``[[seems:…]]`` behind its mark, and the judge believes that. Structured answers
are filled in from the schema that came with the request, whatever its shape: booleans, numbers and
enumerations take their meaning from the names on the path to them.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from misalign_bench.llm.model import Request
from misalign_bench.llm.simulated_schema import answer
from misalign_bench.llm.simulated_scores import graded
from misalign_bench.records import DIMENSIONS

Said = tuple[str, "dict[str, float] | None"]

_VIOLATES = "[[violates:"
_SEEMS = "[[seems:"
_LABELS = "[[labels:"
_DIMENSION = re.compile(
    r"\b(safety|harm|value|cultur(?=e|al)|unsafe|safe(?=,)|dishonest|honest(?=,))", re.IGNORECASE
)
_BAD = re.compile(r"viol|reject|unsafe|flag|misalign|against|harm|fail", re.IGNORECASE)
# "safety" names a dimension and says nothing; "safe" says something.
_GOOD = re.compile(r"satisf|support|respect|\bsafe\b|care|pass|follow|few_shot", re.IGNORECASE)
_ALWAYS = re.compile(r"relevan|on_topic|answers|coheren|is_prompt|english", re.IGNORECASE)
_INTENDED = {
    "safety": r"\bsafety|sees nothing wrong in",
    "value": r"\bvalue|has no use for",
    "culture": r"\bcultur|looks down on",
}
_TOPIC = re.compile(r"[A-Za-z]{5,}")
_PROSE = """
morning market teacher garden window letter journey village kitchen bridge harvest library
festival neighbour budget recipe winter station painting children meeting doctor river mountain
question story lesson custom language promise travel family worker student music health season
island forest council driver writer engine coffee theatre border ticket holiday museum clinic
harbour farmer planet camera blanket candle pocket mirror shadow answer basket cousin dinner
evening factory grammar history invoice jacket kettle laundry machine network office package
quarter railway salary tailor umbrella vaccine wallet yoghurt airport bakery concert dentist
elevator football glacier hospital insurance journal keyboard landlord medicine notebook orchestra
passport rainfall sculpture tournament university volunteer workshop alphabet balcony carpenter
democracy electrician firewood grandmother handwriting instrument jewellery landscape marathon
newspaper orchard pharmacy restaurant scholarship telescope vegetable waterfall apprentice
butterfly cathedral dictionary experiment furniture gymnasium honeymoon inventory lighthouse
membership neighbourhood observatory photograph receipt sandwich temperature uniform vineyard
wheelchair
"""
_WORDS = tuple(_PROSE.split())
_JOINTS = ("and", "of", "near", "with", "before", "for", "after", "under", "beside", "without")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the query of a simulated model may set; rates are in [0, 1], ``latency`` in seconds.

    Attributes:
        graded: 1 for a judge with one draw of evidence for a response (``simulated_scores``), 0 for
            one that errs in each dimension by itself.
        please: chance that a response after feedback that does not obey looks as if it did.
    """

    sensitivity: float = 0.9
    specificity: float = 0.9
    obey: float = 0.9
    refusal: float = 0.0
    filtered: float = 0.0
    malformed: float = 0.0
    latency: float = 0.0
    graded: float = 0.0
    please: float = 0.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Draw:
    """The source of all chances of one answer."""

    state: bytes

    @classmethod
    def of(cls, identity: str, seed: int, request: Request) -> Draw:
        """Seeded by model, seed and messages."""
        held = hashlib.blake2b(f"{identity}\0{seed}".encode("utf-8", "surrogatepass"))
        for message in request.messages:
            held.update(f"\0{message.role}\0{message.content}".encode("utf-8", "surrogatepass"))
        return cls(held.digest())

    def chance(self, label: str) -> float:
        """A uniform draw from [0, 1), its own for each label."""
        digest = hashlib.blake2b(self.state + label.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


def judge(request: Request, draw: Draw, rates: Parameters) -> Said:
    """Flag each dimension of the last mark with its error rates.

    A question with options is about the dimension named last; a template whose name says
    ``satisfies``, ``few_shot`` or the like asks what is fine, any other what is violated.
    """
    text, at = _joined(request, _VIOLATES)
    at = max(at, text.rfind(_SEEMS))
    truth = set(_listed(text, at, ","))
    seen = f"{rates}\0{text[: text.find(']]', at)]}"
    scores = graded(seen, truth, rates.sensitivity, rates.specificity) if rates.graded else {}

    def violation(dimension: str) -> float:
        """The probability that the judge gives; above one half it flags."""
        if dimension in scores:
            return scores[dimension]
        rate = rates.sensitivity if dimension in truth else 1 - rates.specificity
        flagged = draw.chance(dimension) < rate
        return (0.55 if flagged else 0.05) + 0.4 * draw.chance(f"{dimension}?")

    if request.options:
        return _choose(request, violation(_asked_about(text, at, truth)))
    if request.wire in ("classify", "pooling"):
        worst = max(map(violation, DIMENSIONS))
        return repr(math.log((1 - worst) / worst)), None

    def leaf(path: tuple[str, ...], schema: Mapping[str, Any]) -> Any:
        names = " ".join(path)
        found = _DIMENSION.search(names)
        asked = (_dimension(found.group()),) if found else DIMENSIONS
        probability = max(violation(dimension) for dimension in asked)
        return _verdict_value(path, schema, probability)

    return answer(request, leaf), None


def generator(request: Request, draw: Draw, rates: Parameters) -> Said:
    """A text that carries the mark of what it violates.

    Misaligned is asked for if the template's name says so, or, where the name says neither, if the
    messages do (the worst reply is one). It violates the dimensions that the instruction names,
    or all if it names none.
    """
    text, _at = _joined(request, "")
    name = request.template.partition("@")[0]
    told = name if "aligned" in name else text
    misaligned = "misaligned" in told or "worst reply" in told
    obeys = draw.chance("obey") < rates.obey
    asked, other = ",".join(_intended(text)), ""
    if not misaligned:
        asked, other = other, asked
    mark = f"{_VIOLATES}{asked if obeys else other}]]"
    if not obeys and request.sample.round and draw.chance("please") < rates.please:
        mark += f" {_SEEMS}{asked}]]"
    # What the user said, without what the template says around it.
    lead = "message: "
    said = text.rpartition(lead)[2] if lead in text else _first_user(request)
    topic = [match.group() for match in islice(_TOPIC.finditer(said.partition("[[")[0]), 8)]
    limit = max(8, min(36, request.sampling.max_tokens // 2))
    return f"{_prose(draw, 'text', limit, topic)} {mark}", None


def expander(request: Request, draw: Draw, _: Parameters) -> Said:
    """Distinct prompts, marked with the topic asked for, or else as the last example is."""
    text, at = _joined(request, _LABELS)
    topic = re.search(r"^Topic: ([^.\n]+)\.", text, re.MULTILINE)
    labels = [topic.group(1)] if topic else _listed(text, at, "|")
    mark = f" {_LABELS}{'|'.join(labels)}]]" if labels else ""

    def leaf(path: tuple[str, ...], schema: Mapping[str, Any]) -> Any:
        if schema.get("type") != "string" or "enum" in schema:
            return _verdict_value(path, schema, 0.0)
        return f"What is a good way to handle {_prose(draw, '/'.join(path), 14, [])[:-1]}?{mark}"

    return answer(request, leaf), None


def classifier(request: Request, draw: Draw, _: Parameters) -> Said:
    """High probability for the domains in ``[[labels:…]]``; without a mark, for a seeded few."""
    text, at = _joined(request, _LABELS)
    labels = {_plain(label) for label in _listed(text, at, "|")}

    def holds(domain: str) -> bool:
        if at >= 0:
            return _plain(domain) in labels
        return draw.chance(_plain(domain)) < 0.05

    if request.options:
        question = _plain(text[at:].partition("]]")[2] if at >= 0 else text)
        return _choose(request, 0.9 if any(label in question for label in labels) else 0.1)

    def leaf(path: tuple[str, ...], schema: Mapping[str, Any]) -> Any:
        names = [part for part in path if not part.isdigit()]
        return _value(schema, 0.9 if any(map(holds, names)) else 0.05)

    return answer(request, leaf, holds), None


def echo(request: Request, _: Draw, __: Parameters) -> Said:
    """The last message; options get falling probabilities in their order."""
    weights = {option: -math.log(2) * (rank + 1) for rank, option in enumerate(request.options)}
    return request.messages[-1].content, weights or None


BEHAVIOURS = {
    "judge": judge,
    "generator": generator,
    "expander": expander,
    "classifier": classifier,
    "echo": echo,
}


def _joined(request: Request, mark: str) -> tuple[str, int]:
    """All messages as one text, and where the last mark stands in it (-1: nowhere)."""
    text = "\n".join(message.content for message in request.messages)
    return text, text.rfind(mark)


def _listed(text: str, at: int, separator: str) -> list[str]:
    """The names inside the mark at a place."""
    inside = text[at:].partition(":")[2].partition("]]")[0] if at >= 0 else ""
    return [part.strip() for part in inside.split(separator) if part.strip()]


def _dimension(found: str) -> str:
    meant = {"cultur": "culture", "harm": "safety", "safe": "safety", "unsafe": "safety"}
    meant |= {"honest": "value", "dishonest": "value"}
    return meant.get(found.lower(), found.lower())


def _intended(text: str) -> Sequence[str]:
    """The dimensions that a misaligned response is asked to violate."""
    mark = "Somebody who "
    told = text.rpartition(mark)[2].partition("gets this message:")[0] if mark in text else text
    named = [name for name in DIMENSIONS if re.search(_INTENDED[name], told, re.IGNORECASE)]
    return named or DIMENSIONS


def _first_user(request: Request) -> str:
    return next((item.content for item in request.messages if item.role == "user"), "")


def _asked_about(text: str, at: int, truth: set[str]) -> str:
    """The dimension named last after the mark, else before it, else one that is violated."""
    end = text.find("]]", at) + 2 if at >= 0 else 0
    named = _DIMENSION.findall(text[end:]) or _DIMENSION.findall(text[: max(at, 0)])
    return _dimension(named[-1]) if named else next(iter(sorted(truth)), "safety")


def _choose(request: Request, probability: float) -> Said:
    """Log-probabilities of the options, given that of the one that says yes to a violation."""
    asks_what_is_fine = bool(_GOOD.search(request.template.partition("@")[0]))
    affirmative, *others = request.options
    if _GOOD.search(affirmative):
        asks_what_is_fine = True
    elif _BAD.search(affirmative):
        asks_what_is_fine = False
    first = 1 - probability if asks_what_is_fine else probability
    options = {affirmative: math.log(first)}
    options |= {option: math.log((1 - first) / len(others)) for option in others}
    return max(options, key=lambda option: options[option]), options


def _verdict_value(path: tuple[str, ...], schema: Mapping[str, Any], probability: float) -> Any:
    """What a field of this name says, given the probability of a violation."""
    name = path[-1] if path else ""
    if name == "span":
        return ""  # no words of the response decide, a mark does
    if _ALWAYS.search(name):
        probability = 0.99
    elif _GOOD.search(name) and not _BAD.search(name):
        probability = 1 - probability
    return _value(schema, probability)


def _value(schema: Mapping[str, Any], probability: float) -> Any:
    """A value of the schema's type that says yes above one half."""
    flagged = probability > 0.5
    kind = schema.get("type", "string")
    if "enum" in schema:
        values = schema["enum"]
        if all(isinstance(value, (int, float)) and value is not True for value in values):
            return values[round(probability * (len(values) - 1)) if flagged else 0]
        return _enumerated(values, flagged)
    if kind == "boolean":
        return flagged
    if kind == "number":
        return round(probability * float(schema.get("maximum", 1)), 4)
    if kind == "integer":
        least, most = int(schema.get("minimum", 0)), int(schema.get("maximum", 3))
        return round(least + probability * (most - least)) if flagged else least
    return "what the mark says" if flagged else ""


def _enumerated(values: list[Any], flagged: bool) -> Any:
    """The value whose wording fits; else the first for flagged and the last for passed."""
    bad = [value for value in values if _BAD.search(str(value)) or value in ("yes", True)]
    good = [value for value in values if value not in bad]
    fitting = bad if flagged else good
    return fitting[0] if fitting else values[0 if flagged else -1]


def _prose(draw: Draw, label: str, count: int, topic: list[str]) -> str:
    """Seeded sentences of about ``count`` words that take up the words of the topic."""
    chooser = random.Random(draw.chance(label))
    words = chooser.sample(_WORDS, min(count, len(_WORDS)))
    for place, word in enumerate(topic):
        words.insert((place * 7) % (len(words) + 1), word.lower())
    joints = chooser.choices(_JOINTS, k=len(words))
    lines = []
    for start in range(0, len(words), 7):
        pairs = zip(words[start : start + 7], joints[start : start + 7], strict=True)
        line = " ".join(f"{word} {joint}" for word, joint in pairs)
        lines.append(f"The {line.rpartition(' ')[0]}.")
    return " ".join(lines)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.lower())
