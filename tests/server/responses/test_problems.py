"""Problems: RFC 9457 with a stable type, and nothing in them that is nobody's business."""

from __future__ import annotations

import dataclasses

import attrs
import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.faults import http_error
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.serving.errors import error_reply
from orchestra.codecs.withheld import OWNERS, WITHHELD
from orchestra.errors import (
    ArmsFailedError,
    ModelError,
    ModelsFailedError,
    NoQuorumError,
    OrchestraError,
    StepFailedError,
)
from orchestra.events import (
    ArmFailed,
    Delta,
    Event,
    Failure,
    ItemFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    Snapshot,
    StepFailed,
    StepRetried,
    ToolFailed,
)
from orchestra.failed import Failed, ModelFacts
from orchestra.protocols import Timeouts
from orchestra.providers.connections.connection import Bounds
from orchestra.server.responses import problems
from orchestra.server.responses.problems import Fault, HttpProblem
from orchestra.server.runs.fit_events import fit_for_clients
from orchestra.server.runs.problems import failed_run

SECRET = "sk-123 in /home/me/steps.py"


def decoded(problem: HttpProblem) -> dict[str, object]:
    return msgspec.json.decode(problem.encode(), type=dict[str, object])


def test_a_problem_is_told_in_the_words_of_rfc_9457() -> None:
    assert decoded(HttpProblem(404, "gone", "It is gone.", "the cat ate it")) == {
        "type": "urn:problem-type:orchestra:gone",
        "title": "It is gone.",
        "status": 404,
        "detail": "the cat ate it",
    }


def test_the_fields_it_is_about_are_named() -> None:
    faults = [Fault("top", "#/inputs/top", "no int"), Fault("x", "#/inputs/x", "unknown")]
    told = decoded(problems.bad_inputs(faults))
    assert told["status"] == 422
    assert told["field"] == "top"
    assert told["detail"] == "no int; unknown"
    assert told["errors"] == [
        {"pointer": "#/inputs/top", "detail": "no int"},
        {"pointer": "#/inputs/x", "detail": "unknown"},
    ]


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("anwser", "no pipeline is named 'anwser'; did you mean 'answer'?"),
        ("zebra", "no pipeline is named 'zebra'; served here: answer, count"),
    ],
)
def test_an_unknown_pipeline_is_told_with_those_there_are(name: str, detail: str) -> None:
    problem = problems.unknown_pipeline(name, ["count", "answer"])
    assert (problem.status, problem.detail) == (404, detail)


def test_a_server_without_pipelines_says_so() -> None:
    assert problems.unknown_pipeline("x", []).detail.endswith("served here: none")


@given(st.text(min_size=300))
def test_what_a_client_sent_is_told_back_in_part(text: str) -> None:
    said = [
        problems.unknown_pipeline(text, ["answer"]),
        problems.bad_media_type(text),
        problems.not_acceptable(text, ["application/json"]),
        problems.not_found(text),
    ]
    assert all(len(problem.detail) < 200 * len(repr("\U0001ffff")) for problem in said)


def test_a_body_without_a_type_is_told_what_to_say() -> None:
    detail = problems.bad_media_type("").detail
    assert detail == "the body has no media type; send application/json or multipart/form-data"


def test_a_full_server_says_when_to_come_back() -> None:
    assert dict(problems.too_busy("full").headers) == {"Retry-After": "1"}


# --- failed runs -------------------------------------------------------------------------------


def failed(error: str, message: str = "no", where: str | None = None) -> RunFailed:
    return RunFailed(9, 1.0, error, message, "cite", where)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("DeadlineError", 504),
        ("ModelError", 502),
        ("TruncatedStreamError", 502),
        ("LimitExceededError", 500),
        ("EdgeTypeError", 500),
        ("ValueError", 500),
    ],
)
def test_the_status_tells_whose_fault_it_was(error: str, status: int) -> None:
    assert failed_run("r1", failed(error)).status == status


def test_a_failed_run_names_the_step_and_the_run() -> None:
    told = decoded(failed_run("r1", failed("ModelError", "refused", "steps.py:3")))
    assert told["detail"] == "refused"
    assert {key: told[key] for key in ("run_id", "error", "step", "where")} == {
        "run_id": "r1",
        "error": "ModelError",
        "step": "cite",
        "where": "steps.py:3",
    }


def test_what_is_not_known_of_a_failure_is_left_out() -> None:
    told = decoded(failed_run("r1", RunFailed(9, 1.0, "DeadlineError", "late")))
    assert "step" not in told
    assert "where" not in told


def test_a_cancelled_run_may_be_asked_for_again() -> None:
    problem = failed_run("r1", RunCancelled(9, 1.0, "the server was stopped"))
    assert problem.status == 503
    assert decoded(problem)["run_id"] == "r1"
    assert problem.detail == "the run was cancelled: the server was stopped"


# --- what is nobody's business -----------------------------------------------------------------

FAILURES: list[Failure] = [
    RunFailed(9, 1.0, "KeyError", SECRET, "cite", SECRET),
    StepFailed(9, 1.0, "cite", "KeyError", SECRET, SECRET),
    StepRetried(9, 1.0, "cite", 1, 0.5, "KeyError", SECRET),
    ArmFailed(9, 1.0, "race", "1:cite", "KeyError", SECRET),
    ToolFailed(9, 1.0, "cite", "look", "KeyError", SECRET),
    ItemFailed(9, 1.0, "each", 3, "KeyError", SECRET),
]


@pytest.mark.parametrize("event", FAILURES)
def test_the_message_of_a_foreign_exception_and_its_line_stay_here(event: Event) -> None:
    fit = fit_for_clients(event, debug=False)
    assert SECRET not in repr(fit)
    assert "KeyError" in repr(fit)
    assert (fit.seq, fit.at_s) == (event.seq, event.at_s)


@pytest.mark.parametrize("event", FAILURES)
@pytest.mark.parametrize("error", ["ModelError", "TruncatedStreamError"])
def test_what_orchestra_says_itself_is_told(event: Failure, error: str) -> None:
    fit = fit_for_clients(attrs.evolve(event, error=error, message="cut"), debug=False)
    assert isinstance(fit, Failure)
    assert fit.message == "cut"
    assert SECRET not in repr(fit)


@attrs.frozen
class Report:
    """What a pipeline makes of its items."""

    title: str
    failed: tuple[Failed[object], ...]


@dataclasses.dataclass
class Page:
    """The same, as a dataclass."""

    title: str
    failed: Failed[object]


FACTS = ModelFacts("fast", SECRET, SECRET, 529, "", SECRET, None)
FOREIGN: Failed[object] = Failed(3, "a", "KeyError", SECRET, "each[3]/cite", model=FACTS)
HIDDEN = attrs.evolve(FOREIGN, message=OWNERS, model=None)
OUTPUTS = [
    (FOREIGN, HIDDEN),
    ([1, FOREIGN], [1, HIDDEN]),
    ((1, FOREIGN), (1, HIDDEN)),
    ({"a": [FOREIGN]}, {"a": [HIDDEN]}),
    (Report("r", (FOREIGN,)), Report("r", (HIDDEN,))),
    (Page("p", FOREIGN), Page("p", HIDDEN)),
    (attrs.evolve(FOREIGN, item=FOREIGN), attrs.evolve(HIDDEN, item=HIDDEN)),
]


@pytest.mark.parametrize(("output", "fit"), OUTPUTS)
def test_what_an_item_failed_with_stays_here_as_far_as_it_is_foreign(
    output: object, fit: object
) -> None:
    before = repr(output)
    for event in (Delta(9, 1.0, output), Snapshot(9, 1.0, output), RunFinished(9, 1.0, output, {})):
        told = fit_for_clients(event, debug=False)
        assert SECRET not in repr(told)
        assert fit in (getattr(told, name, None) for name in ("chunk", "output", "result"))
        assert fit_for_clients(event, debug=True) is event
    assert repr(output) == before, "the journal has its own"


def test_an_output_without_items_that_failed_is_as_it_was_also_one_that_holds_itself() -> None:
    endless: list[object] = [{"a": (1, "b")}, Report("r", ())]
    endless.append(endless)
    event = RunFinished(9, 1.0, endless, {})
    assert fit_for_clients(event, debug=False) is event


class InvalidRequestError(Exception):
    """Another's, as stripe has one, that is called as one of ours."""


SEVERAL: list[ArmsFailedError | StepFailedError] = [
    ArmsFailedError("every arm of 'f' failed:", {"1:one": KeyError(SECRET)}),
    ArmsFailedError("no:", {"1:one": ModelError("slow"), "2:two": ValueError(f"a\n{SECRET}\nb")}),
    NoQuorumError("no:", {"1:one": KeyError(SECRET)}, {"2:two": "yes"}),
    ArmsFailedError("no:", {"1:one": InvalidRequestError(SECRET)}),
    StepFailedError("2 errors at once:", [ModelError("slow"), InvalidRequestError(SECRET)]),
    StepFailedError("2 errors at once:", [ModelError("slow"), OSError(SECRET)]),
    StepFailedError("1:", [ArmsFailedError("no:", {"1:one": KeyError(SECRET)})]),
    ArmsFailedError("no:", {"1:one": StepFailedError("1:", [ValueError(SECRET)])}),
]


@pytest.mark.parametrize("error", SEVERAL)
@pytest.mark.parametrize("event", FAILURES)
def test_of_several_errors_in_one_the_foreign_ones_stay_here(
    event: Failure,
    error: ArmsFailedError | StepFailedError,
) -> None:
    """Its message lists what each of them says."""
    fit = fit_for_clients(
        attrs.evolve(event, error=type(error).__name__, message=str(error)), debug=False
    )
    assert isinstance(fit, Failure)
    assert SECRET not in fit.message
    lines = str(error).split("\n")
    assert fit.message.startswith(lines[0])
    ours = [line for line in lines if "slow" in line or "gave" in line]
    assert all(line in fit.message for line in ours)
    assert fit.message.endswith("is shown only to the server's owner")


@pytest.mark.parametrize("kind", WITHHELD)
def test_what_names_keys_accounts_hosts_and_files_stays_here(kind: type[OrchestraError]) -> None:
    """Also where it is one of several; its class is told, by which clients know what to do."""

    def said(error: OrchestraError) -> str:
        fit = fit_for_clients(failed(type(error).__name__, str(error)), debug=False)
        assert isinstance(fit, RunFailed)
        assert fit.error == type(error).__name__
        return fit.message

    secret = kind(SECRET)
    assert SECRET not in said(secret)
    assert SECRET not in error_reply(secret).message
    for error in (
        ArmsFailedError("no:", {"1:one": secret, "2:two": ModelError("slow")}),
        StepFailedError("no:", [secret, ModelError("slow")]),
        *(
            ModelsFailedError("no:", {"gpt": each, "local": ModelError("slow")})
            for each in [secret]
            if isinstance(each, ModelError)
        ),
    ):
        told = said(error)
        assert "slow" in told
        assert SECRET not in told


@given(st.text(), st.lists(st.text(), max_size=3))
def test_whatever_a_foreign_error_says_in_a_list_none_of_it_is_told(
    head: str, says: list[str]
) -> None:
    secrets = [f"{text}-sk-123" for text in says]
    error = ArmsFailedError(
        head.replace("\n", ""), {f"{at}:arm": ValueError(text) for at, text in enumerate(secrets)}
    )
    fit = fit_for_clients(failed(type(error).__name__, str(error)), debug=False)
    assert isinstance(fit, RunFailed)
    assert "-sk-123" not in fit.message


@pytest.mark.parametrize("event", FAILURES)
def test_at_a_desk_everything_is_told(event: Event) -> None:
    told = fit_for_clients(event, debug=True)
    assert (
        attrs.evolve(told, problem=None) == event if isinstance(told, RunFailed) else told is event
    )


def test_what_is_no_failure_passes_untouched() -> None:
    event = Delta(1, 0.0, "chunk")
    assert fit_for_clients(event, debug=False) is event


def test_a_users_error_in_our_tree_counts_as_ours() -> None:
    class TooSourError(OrchestraError):
        """Somebody's own."""

    event = failed(TooSourError.__name__, "too sour")
    told = fit_for_clients(event, debug=False)
    assert isinstance(told, RunFailed)
    assert (told.error, told.message) == (event.error, event.message)


def late(name: str, limit_s: float, where: str) -> ModelError:
    async def main() -> ModelError:
        return Bounds(attrs.evolve(Timeouts(), **{name: limit_s}), where).late(name)

    return trio.run(main)


def cut_behind(raw: bytes) -> ModelError:
    decoder = OpenAiDialect().decoder()
    decoder.feed(raw)
    with pytest.raises(ModelError) as caught:
        decoder.close()
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        late("first_byte_s", 0.5, "inner.test:5999"),
        late("connect_s", 1e-05, "https://inner.test"),
        cut_behind(b"<html>inner.test"),
        http_error(504, {}, b"<html>\n<h1>inner.test</h1>\n</html>", 0.0),
    ],
)
def test_what_a_message_names_of_hosts_and_bytes_stays_here(error: ModelError) -> None:
    """Alone and in a list: the rest of it says what to do."""
    several = ModelsFailedError("no:", {"gpt": error, "local": ModelError("slow")})
    assert "inner.test" in str(error)
    shown = [error_reply(error).message]
    for each in (error, several):
        event = fit_for_clients(failed(type(each).__name__, str(each)), debug=False)
        assert isinstance(event, RunFailed)
        shown.append(event.message)
    for told in shown:
        assert "inner.test" not in told
        assert any(what in told for what in ("within", "it was cut", "with HTTP status 50"))
    assert "slow" in shown[-1]
