"""No model judges or labels what it may have written, whatever it is called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from misalign_bench.build.roles import CallOptions, Clients, refuse_shared
from misalign_bench.config import RunSettings
from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.journal.store import Journal
from misalign_bench.llm.budget import Budget
from misalign_bench.llm.calls import Call
from misalign_bench.llm.client import Answered
from misalign_bench.llm.model import Failure, Model, Request, Sample, Sampling
from misalign_bench.llm.providers import make_model
from misalign_bench.records import Message
from scripted import Scripted


def run_of(
    evaluator: Any = "openai/e", classifier: Any = "openai/c", *generators: Any, **changes: Any
) -> RunSettings:
    roles = {
        "classifier": classifier,
        "expander": "openai/x",
        "generators": list(generators) or ["openai/g", "openai/h"],
        "evaluator": evaluator,
    }
    return RunSettings.model_validate(
        {"source": {"path": "p.csv"}, "roles": roles | changes, "expand": {"enabled": False}}
    )


def models_of(
    run: RunSettings, weights: Mapping[str, str] | None = None
) -> dict[ModelSettings, Model]:
    """A model for each role but the expander; ``weights`` by name, else each has its own."""
    roles = run.roles
    held = (*roles.generators, roles.evaluator, roles.classifier)
    return {
        one: Scripted(
            lambda _: "",
            one.model,
            weights=(weights or {}).get(one.model, one.model + one.revision),
        )
        for one in held
    }


def test_models_of_their_own_are_accepted() -> None:
    run = run_of()
    assert refuse_shared(run, models_of(run)) is False


@pytest.mark.parametrize("role", ["evaluator", "classifier"])
def test_a_role_that_is_a_generator_by_name_is_refused(role: str) -> None:
    run = run_of(**{role: "openai/h"})
    with pytest.raises(UserError, match=rf"^roles: the {role} openai/h is also a generator\. "):
        refuse_shared(run, models_of(run))


@pytest.mark.parametrize("role", ["evaluator", "classifier"])
def test_a_role_that_has_the_weights_of_a_generator_is_refused_under_any_name(role: str) -> None:
    run = run_of(**{role: "embedded/path/to/other-name.gguf"})
    same = {"embedded/path/to/other-name.gguf": "sha256:1", "openai/h": "sha256:1"}
    with pytest.raises(UserError, match="allow_shared_roles") as caught:
        refuse_shared(run, models_of(run, same))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("role", ["evaluator", "classifier"])
def test_shared_roles_that_are_allowed_are_marked(role: str) -> None:
    run = run_of(**{role: "openai/h", "allow_shared_roles": True})
    assert refuse_shared(run, models_of(run)) is True


def test_allowing_shared_roles_marks_nothing_where_none_are_shared() -> None:
    run = run_of(allow_shared_roles=True)
    assert refuse_shared(run, models_of(run)) is False


def test_another_revision_of_one_name_is_another_model() -> None:
    tuned = {"model": "openai/g", "revision": "tuned"}
    run = run_of({"model": "openai/g"}, "openai/c", tuned)
    assert refuse_shared(run, models_of(run)) is False
    run = run_of(tuned, "openai/c", tuned)
    with pytest.raises(UserError, match="evaluator"):
        refuse_shared(run, models_of(run))


def test_other_settings_of_a_generator_make_it_no_other_model() -> None:
    run = run_of({"model": "openai/g", "concurrency": 3, "sampling": {"temperature": 0.0}})
    with pytest.raises(UserError, match="evaluator openai/g"):
        refuse_shared(run, models_of(run))


def test_a_classifier_that_asks_no_model_is_not_compared() -> None:
    run = run_of(classifier="embedded/minilm")
    models = models_of(run)
    del models[run.roles.classifier]
    assert refuse_shared(run, models) is False


def test_an_expander_may_be_a_generator() -> None:
    run = run_of(expander="openai/g")
    assert refuse_shared(run, models_of(run)) is False


@pytest.mark.parametrize("second", ["openai/g", {"model": "openai/g", "revision": "tuned"}])
def test_a_generator_that_is_named_twice_is_refused(second: Any) -> None:
    run = run_of("openai/e", "openai/c", "openai/g", second)
    with pytest.raises(UserError, match=r"openai/g is named twice\. Name it once"):
        refuse_shared(run, models_of(run))


def test_simulated_models_are_told_apart_by_their_parameters() -> None:
    run = run_of("simulated/judge", "simulated/judge?name=b", "simulated/generator")
    roles = run.roles
    held = [*roles.generators, roles.evaluator, roles.classifier]
    assert refuse_shared(run, {one: make_model(one) for one in held}) is False
    run = run_of("simulated/judge", "simulated/judge?name=b", "simulated/judge")
    held = [*run.roles.generators, run.roles.evaluator, run.roles.classifier]
    with pytest.raises(UserError, match="evaluator"):
        refuse_shared(run, {one: make_model(one) for one in held})


# --- the clients of a run


ECHO = ModelSettings(model="simulated/echo")
OTHER = ModelSettings(model="simulated/echo?name=other")


def ask_for(text: str) -> Request:
    return Request((Message("user", text),), Sampling(), Sample("generator"))


async def test_a_model_has_one_client_however_often_it_is_asked_for(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.sqlite")
    clients = Clients(journal, 7, Budget())
    assert clients.of(ECHO) is clients.of(ModelSettings(model="simulated/echo"))
    assert clients.of(ECHO) is not clients.of(OTHER)
    await clients.close()
    await journal.close()


async def test_clients_share_budget_options_and_journal_and_sum_up_their_use(
    tmp_path: Path,
) -> None:
    heard: list[Call] = []
    journal = Journal.open(tmp_path / "journal.sqlite")
    clients = Clients(journal, 7, Budget(max_calls=3), CallOptions(on_call=heard.append))
    for model in (ECHO, OTHER):
        assert isinstance(await clients.of(model).ask(ask_for("hello")), Answered)
    await clients.of(ECHO).ask(ask_for("hello"))
    usage = clients.usage()
    assert {key: (one.calls, one.replayed) for key, one in usage.items()} == {
        ("generator", "simulated/echo"): (1, 1),
        ("generator", "simulated/echo?name=other"): (1, 0),
    }
    assert [call.replayed for call in heard] == [False, False, True]
    await clients.close()
    assert clients.usage() == {}
    await journal.close()


async def test_the_command_lines_word_on_calls_holds_for_every_client(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.sqlite")
    clients = Clients(journal, 7, Budget(), CallOptions(no_new_draws=True))
    for model in (ECHO, OTHER):
        answer = await clients.of(model).ask(ask_for("hello"))
        assert isinstance(answer, Failure)
        assert answer.kind == "draw_not_in_journal"
    await clients.close()
    await journal.close()


async def test_a_model_that_cannot_be_made_is_an_error_of_the_configuration(
    tmp_path: Path,
) -> None:
    journal = Journal.open(tmp_path / "journal.sqlite")
    clients = Clients(journal, 7, Budget())
    with pytest.raises(UserError, match="no behaviour 'prophet'"):
        clients.of(ModelSettings(model="simulated/prophet"))
    await clients.close()
    await journal.close()
