"""What `serve` loads again: new pipelines, new bindings, and the state that it had."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import trio
import trustme

from orchestra.access.wanted import NewKey
from orchestra.annotations.custom_types import for_msgspec
from orchestra.cli.failures import CommandError
from orchestra.cli.serving.reloading import Loader
from orchestra.cli.serving.serve import settle
from orchestra.closing import Closing
from orchestra.config import LocalBindings
from orchestra.config.finding import read_deployment
from orchestra.errors import BindingError, ConfigError, ServeError, StateError
from orchestra.server.front.layers import Admission
from orchestra.server.processes.watching import stamps
from orchestra.server.responses.fit_values import fit_value
from tests.cli.conftest import Project

Load = Callable[[], LocalBindings]


class Loading(Loader, Closing):
    """A loader that closes what it has loaded, as a server does: the oldest first."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self.opened: list[Callable[[], None]] = []

    def close(self) -> None:
        for close in self.opened:
            close()


def loader_of(project: Project, *targets: str, worker: int = 0) -> Loading:
    return Loading(targets, None, None, "127.0.0.1", {"drain_s": 3}, worker=worker, watches=True)


def loaded(loader: Loading) -> LocalBindings:
    """What is loaded next; at the latest it is closed with the loader."""
    with loader.load() as found:
        assert isinstance(found.bindings, LocalBindings)
        loader.opened.append(found.close)
        return found.bindings


def test_pipelines_and_settings_are_those_of_the_files_as_they_are_now(say: Project) -> None:
    loader = loader_of(say)
    with loader, loader.load() as first:
        pass
    say.write(
        "pipelines/more.py",
        "from pipelines.say import pipeline, upper\n\n@pipeline\ndef more(text: str) -> str:\n    return upper(text)\n",
    )
    say.write("orchestra.toml", "[server]\ndrain_s = 7\nkeep_alive_s = 1\n")
    with loader, loader.load() as second:
        pass
    assert list(first.pipelines) == ["say", "count"]
    assert list(second.pipelines) == list(loader.pipelines) == ["more", "say", "count"]
    assert first.pipelines["say"] is not second.pipelines["say"]
    assert (first.settings.keep_alive_s, second.settings.keep_alive_s) == (7, 1)
    assert second.settings.drain_s == 3, "what the command line says is above the file"


def test_what_can_be_asked_is_found_out_once_and_told_to_the_server(say: Project) -> None:
    say.write(
        "pipelines/odd.py",
        """
        from collections.abc import Callable
        from orchestra import Stream, pipeline, step
        from orchestra.steps import generate
        from orchestra.values import ChatRequest

        @step
        def called(each: Callable[[], str]) -> str:
            return each()

        @pipeline
        def unread(each: Callable[[], str]) -> str:
            return called(each)

        @pipeline
        def chat(request: ChatRequest) -> Stream[str]:
            return generate(request)
        """,
    )
    with (loader := loader_of(say)), loader.load() as found:
        assert list(found.pipelines) == ["chat", "say", "count"]
        assert found.by_json is not None
        assert list(found.by_json) == ["say", "count"]
    assert loader.by_json == found.by_json
    with (loader := loader_of(say, "pipelines.odd:unread")), loader.load() as found:
        assert found.by_json is None, "the server refuses it, and says why"


@contextmanager
def without_collecting() -> Iterator[None]:
    """Nobody looks for garbage by himself."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_of_modules_that_are_replaced_nothing_stays(say: Project) -> None:
    """Or a server that is reloaded for every change would grow by all that they hold."""
    say.write("pipelines/made.py", "class Made:\n    pass\n")
    with (loader := loader_of(say)), without_collecting():
        loaded(loader)
        made: Any = sys.modules["pipelines.made"].Made
        for_msgspec(tuple[made, ...])  # as an input or a result
        fit_value([made()], "{}: {}".format)
        before = ref(made)
        del made
        loaded(loader)
        assert before() is not None, "it is garbage only when somebody looks"
        settle()
        assert before() is None


def test_the_state_is_carried_over_and_closed_with_the_last_that_uses_it(say: Project) -> None:
    say.write("orchestra.toml", '[state]\nurl = "sqlite:limits.sqlite"\n')
    with (loader := loader_of(say)):
        first = loaded(loader)
        state = first.state
        second, third = loaded(loader), loaded(loader)
        assert second.state is third.state is state
        for each in (first, third, second):
            assert not state._closed  # type: ignore[attr-defined]
            each.close()
        assert state._closed  # type: ignore[attr-defined]


PLACES = """\
[state]
url = "rediss://127.0.0.1:1/0"
ca_file = "ca.pem"
[stores]
url = "postgresql://127.0.0.1:1/app"
[models.mine]
class = "local:Echo"
[server]
keys = "required"
"""


def test_connections_survive_a_reload_that_changes_none_of_their_settings(say: Project) -> None:
    say.write("local.py", LOCAL)
    say.write("orchestra.toml", PLACES)
    trustme.CA().cert_pem.write_to_path(str(say.folder / "ca.pem"))
    with (loader := loader_of(say)):
        first = loaded(loader)
        known = first.state, first.keys, first.stores._others
        say.write("orchestra.toml", f"{PLACES}drain_s = 1\n")
        second = loaded(loader)
        assert (second.state, second.keys, second.stores._others) == known, "asked for in a plan"
        first.close()
        assert second.stores.collection("notes")._pool._closed is False  # type: ignore[union-attr]
        say.write("orchestra.toml", PLACES.replace("/app", "/other"))
        third = loaded(loader)
        assert (third.state, third.keys) == known[:2]
        assert third.stores._others is not known[2]
        os.utime(say.folder / "ca.pem", (1, 1))
        assert loaded(loader).state is not third.state, "a certificate is read when it is opened"


def test_what_is_refused_closes_what_it_has_opened_and_nothing_else(say: Project) -> None:
    """Also where the state, which is opened last, is what it cannot be served with."""
    say.write("local.py", LOCAL)
    told, mine = say.folder / "told", '[models.mine]\nclass = "local:Echo"\n'
    away = '[state]\nurl = "redis://127.0.0.1:1/0"\npassword_env = "NOT_SET"\n'
    with (loader := loader_of(say)):
        say.write("orchestra.toml", mine + away)
        with pytest.raises(BindingError, match="NOT_SET"), loader.load():
            raise AssertionError("it was loaded")
        assert told.read_text() == "made closed "
        say.write("orchestra.toml", mine + IN_FILE)
        state = loaded(loader).state
        say.write("orchestra.toml", f'{mine}{IN_FILE}[models.other]\nclass = "local:Ecko"\n')
        with pytest.raises(BindingError, match="Ecko"), loader.load():
            raise AssertionError("it was loaded")
        assert told.read_text() == "made closed made made closed "
        assert not state._closed  # type: ignore[attr-defined]
    assert state._closed  # type: ignore[attr-defined]


def test_a_state_elsewhere_is_another(say: Project) -> None:
    with (loader := loader_of(say)):
        first = loaded(loader)
        in_memory = first.state
        say.write("orchestra.toml", '[state]\nurl = "sqlite:state.sqlite"\n')
        assert loaded(loader).state is not in_memory


def test_a_state_that_is_not_there_does_not_take_the_place_of_one_that_is(say: Project) -> None:
    """A start waits for it instead: it is not ready, and becomes so."""
    away = '[state]\nurl = "redis://127.0.0.1:1/0"\n[server]\nkeys = "required"\n'
    with (loader := loader_of(say)):
        admitted(loader)
        pipelines = loader.pipelines
        say.write("orchestra.toml", away)
        with pytest.raises(StateError, match=r"redis://127\.0\.0\.1:1/0"):
            admitted(loader)
        assert loader.pipelines is pipelines
        assert loader.state_place() == ""
    with (loader := loader_of(say)):
        assert admitted(loader).keyring is not None
        say.write("orchestra.toml", f"{away}drain_s = 1\n")
        assert admitted(loader).keyring is not None, "it is what there was"


IN_FILE = '[state]\nurl = "sqlite:state.sqlite"\n'
WANTED = NewKey(organisation="acme", pipelines=("*",))


def admitted(loader: Loading) -> Admission:
    with loader.load() as found:
        assert found.admit is not None
        loader.opened.append(found.close)
        return trio.run(found.admit)


def test_a_reload_does_not_open_what_keys_were_asked_for(say: Project) -> None:
    """A state of its own has no keys yet: those that were made are in another file."""
    with (loader := loader_of(say)):
        assert admitted(loader).unlocked is not None
        trio.run(loaded(loader).keyring.create, WANTED)
        file = say.write("orchestra.toml", IN_FILE)
        with pytest.raises(ServeError, match=r"keys.sqlite are missing; make one there"):
            admitted(loader)
        with LocalBindings(Path(".orchestra"), read_deployment(file)) as beside:
            trio.run(beside.keyring.create, WANTED)
        assert admitted(loader).keyring is not None


def test_a_start_does_not_let_everybody_in_where_keys_are_left_behind(say: Project) -> None:
    with (loader := loader_of(say)):
        trio.run(loaded(loader).keyring.create, WANTED)
    say.write("orchestra.toml", IN_FILE)
    with (loader := loader_of(say)), pytest.raises(ServeError, match="are missing"):
        admitted(loader)
    say.write("orchestra.toml", f'{IN_FILE}[server]\nkeys = "none"\n')
    with (loader := loader_of(say)):
        assert admitted(loader).keyring is None


def test_a_reload_that_asks_nobody_has_to_say_so(say: Project) -> None:
    say.write("orchestra.toml", '[server]\nkeys = "required"\n')
    with (loader := loader_of(say)):
        assert admitted(loader).unlocked is None
        say.write("orchestra.toml", "[server]\n")
        assert admitted(loader).keyring is not None
        say.write("orchestra.toml", '[server]\nkeys = "none"\n')
        assert admitted(loader).own_pages is not None
        say.write("orchestra.toml", "[server]\n")
        assert admitted(loader).own_pages is not None, "nobody was asked before, either"


def test_where_it_cannot_be_told_whether_keys_were_asked_for_they_were(say: Project) -> None:
    with (loader := loader_of(say)):
        trio.run(loaded(loader).keyring.create, WANTED)
        (say.folder / ".orchestra" / "keys.sqlite").write_bytes(b"no database" * 1000)
        say.write("orchestra.toml", IN_FILE)
        with pytest.raises((ServeError, StateError)):
            admitted(loader)


def test_budgets_that_begin_anew_with_each_start_are_in_the_log(
    say: Project, caplog: pytest.LogCaptureFixture
) -> None:
    budgets = '[budgets.user]\nmonth = "5.00"\n'
    memory = '[state]\nurl = "memory:"\n'
    for text, worker, told in (
        (budgets + memory, 0, True),
        (budgets + memory, 1, False),
        (budgets, 0, False),
        (budgets + IN_FILE, 0, False),
        ('[budgets]\nrequest = "1.00"\n', 0, False),
    ):
        say.write("orchestra.toml", text)
        with (loader := loader_of(say, worker=worker)):
            loaded(loader).close()
        assert ("forgotten when the server stops" in caplog.text) == told
        caplog.clear()


def test_a_named_organisation_without_a_key_is_in_the_log(
    say: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """Not where nobody has a key, and never where no keys are asked for."""
    named = "[budgets.organisations.acmee]\nmonth = 5\n"
    for number, keys in enumerate(("", "", '[server]\nkeys = "none"\n')):
        say.write("orchestra.toml", named + keys)
        with (loader := loader_of(say)):
            admitted(loader)
            assert ("organisation 'acmee'; did you mean 'acme'?" in caplog.text) == (number == 1)
            caplog.clear()
            trio.run(loaded(loader).keyring.create, WANTED)
    say.write("orchestra.toml", named)
    with (loader := loader_of(say, worker=2)):  # of several workers, only the first
        admitted(loader)
    assert not caplog.text


def test_a_model_whose_price_is_needed_and_not_known_is_in_the_log(
    say: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """`check` calls it a problem, and a server that goes on without it says so."""
    model = '[models.odd]\nprovider = "openai-compatible"\nmodel = "odd"\n'
    refuse = '[budgets]\nrequest = "1.00"\nunknown_price = "refuse"\n'
    say.write("orchestra.toml", f'{model}base_url = "http://127.0.0.1:1/v1"\n{refuse}')
    with (loader := loader_of(say)):
        loaded(loader).close()
    assert "[unknown-price]" in caplog.text


def test_keys_stay_where_they_are_made_whatever_is_carried_over(say: Project) -> None:
    """Else a reload, or a second worker, would find no key, and let everybody in."""
    for worker in (0, 1):
        with (loader := loader_of(say, worker=worker)):
            first, second = loaded(loader), loaded(loader)
            assert second.state is first.state
            for each in (first, second):
                assert each.keys.path.name == "keys.sqlite"  # type: ignore[attr-defined]


def test_workers_share_a_file_where_one_process_needs_none(say: Project) -> None:
    with (loader := loader_of(say, worker=2)):
        assert loader.state_place() == ""
        loaded(loader)
        assert loader.state_place() == ".orchestra/state.sqlite"
    with (loader := loader_of(say)):
        loaded(loader)
        assert loader.state_place() == ""


def test_what_is_said_of_a_pipeline_that_is_not_served_is_in_the_log(
    say: Project, caplog: pytest.LogCaptureFixture
) -> None:
    say.write("orchestra.toml", '[server.pipelines.sya]\ndisconnect = "linger"\n')
    for targets, told in (((), 1), (("pipelines.say",), 0)):  # the rest may be served elsewhere
        with (loader := loader_of(say, *targets)):
            loaded(loader).close()
        assert caplog.text.count("orchestra.toml:1: server.pipelines.sya: there is no") == told
        caplog.clear()


def test_pipelines_that_are_gone_are_told_once_the_rest_is_served(
    say: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that was copied in part has none, which is no error if there is a configuration."""
    say.write("orchestra.toml", "")
    with (loader := loader_of(say)):
        loaded(loader)
        say.write("pipelines/say.py", "")
        loaded(loader)
        assert caplog.messages == ["pipelines that are no longer served: count, say"]
        loaded(loader)
        assert len(caplog.messages) == 1


def test_models_and_routes_that_are_gone_are_told_as_keys_may_name_them(
    say: Project, caplog: pytest.LogCaptureFixture
) -> None:
    one = '[models.one]\nprovider = "extractive"\n'
    say.write("orchestra.toml", one + '[routes.chat]\nmodels = ["one"]\n')
    with (loader := loader_of(say)):
        loaded(loader)
        say.write("orchestra.toml", one.replace("one", "two"))
        loaded(loader)
        assert caplog.messages == ["models and routes that are no longer served: chat, one"]
        loaded(loader)
        assert len(caplog.messages) == 1


UNSERVABLE = """\
from collections.abc import Callable

from orchestra import pipeline, step

@step
async def told(each: Callable[[], str]) -> str:
    return each()

@pipeline
def inner(each: Callable[[], str]) -> str:
    return told(each)
"""


def test_a_pipeline_that_no_client_can_ask_keeps_the_others_from_nothing(
    say: Project, caplog: pytest.LogCaptureFixture
) -> None:
    say.write("pipelines/inner.py", UNSERVABLE)
    with (loader := loader_of(say)):
        loaded(loader).close()
        assert "inner" not in loader.pipelines
        assert loader.pipelines
    assert "pipelines/inner.py:10: pipeline 'inner' cannot be served: its input" in caplog.text
    with (loader := loader_of(say, "pipelines.inner")):  # who names it is told why
        loaded(loader).close()
        assert "inner" in loader.pipelines
    code, out, err = say.orchestra("check")
    assert (code, out) == (0, "3 pipelines, no problems\n")
    assert err.startswith("pipelines/inner.py:10: pipeline 'inner' cannot be served")


@pytest.mark.parametrize(
    ("path", "text", "error"),
    [
        ("pipelines/say.py", "def", CommandError),
        ("orchestra.toml", "[state]\nurl = 7\n", ConfigError),
        ("orchestra.toml", '[stores.mine]\nclass = "shelves:Mine"\n', BindingError),
    ],
)
def test_what_is_refused_leaves_what_there_was(
    say: Project, path: str, text: str, error: type[Exception]
) -> None:
    with (loader := loader_of(say)):
        first = loaded(loader)
        pipelines = loader.pipelines
        say.write(path, text)
        with pytest.raises(error), loader.load():
            raise AssertionError("it was loaded")
        assert loader.pipelines is pipelines
        first.close()


def test_stores_of_its_own_are_made_of_the_classes_as_they_are_now(say: Project) -> None:
    text = (
        "from orchestra.stores.memory import MemoryStore\n\nclass Mine(MemoryStore):\n    old = 1\n"
    )
    say.write("shelves.py", text)
    say.write(
        "orchestra.toml",
        '[stores.mine]\nclass = "shelves:Mine"\noptions = { name = "mine" }\n',
    )
    with (loader := loader_of(say)):
        before = loaded(loader).store("mine")
        say.write("shelves.py", text.replace("old", "new"))
        after = loaded(loader).store("mine")
        assert (hasattr(before, "old"), hasattr(after, "old")) == (True, False)
        say.write("shelves.py", text.replace("Mine", "Yours"))
        with pytest.raises(BindingError, match="there is no 'Mine'"), loader.load():
            raise AssertionError("it was loaded")


LOCAL = """
    from pathlib import Path

    from orchestra.protocols import Model

    class Echo(Model):
        def __init__(self):
            with Path("told").open("a") as told:
                told.write("made ")

        def stream(self, request): ...

        def close(self):
            with Path("told").open("a") as told:
                told.write("closed ")

    class Letters(Echo):
        dimensions = 3
"""


def test_models_of_its_own_are_made_at_once_and_closed_where_another_is_refused(
    say: Project,
) -> None:
    say.write("local.py", LOCAL)
    mine = '[models.mine]\nclass = "local:Echo"\n'
    say.write("orchestra.toml", f'{mine}[embedders.e]\nclass = "local:Letters"\n')
    told = say.folder / "told"
    with (loader := loader_of(say)):
        first = loaded(loader)
        assert told.read_text() == "made made "
        assert first.model("default").capabilities == first.model("mine").capabilities
        say.write("orchestra.toml", f'{mine}[models.other]\nclass = "local:Ecko"\n')
        with pytest.raises(BindingError, match="did you mean 'Echo'"), loader.load():
            raise AssertionError("it was loaded")
        assert told.read_text() == "made made made closed "
        say.write("orchestra.toml", mine)
        loaded(loader).close()
        assert told.read_text() == "made made made closed made closed "
        first.close()
    assert told.read_text() == "made made made closed made closed closed closed ", "each once"


@pytest.mark.parametrize("late", [False, True])
def test_a_configuration_that_was_there_has_to_be_there_from_then_on(
    say: Project, *, late: bool
) -> None:
    """Else a server that asks for keys would ask nobody, and count nothing; also one found late."""
    with (loader := loader_of(say)):
        if late:
            loaded(loader)
        file = say.write("orchestra.toml", '[server]\nkeys = "required"\n')
        loaded(loader)
        file.unlink()
        with pytest.raises(ConfigError, match="there is no such file"), loader.load():
            raise AssertionError("it was loaded")
        say.write("orchestra.toml", '[server]\nkeys = "none"\n')
        assert loaded(loader).rules.keys == "none"


def test_one_that_was_refused_need_not_stay(say: Project) -> None:
    with (loader := loader_of(say)):
        loaded(loader)
        file = say.write("orchestra.toml", "nonsense")
        with pytest.raises(ConfigError), loader.load():
            raise AssertionError("it was loaded")
        file.unlink()
        loaded(loader)


def ask_of_notes(loader: Loading) -> None:
    """Load what needs the store `notes`."""
    with loader.load() as found:
        assert found.bindings is not None
        loader.opened.append(found.close)
        found.bindings.store("notes")


def test_stores_are_watched_while_what_was_loaded_last_is_refused(say: Project) -> None:
    """A store that it names may be made meanwhile; to be written to changes nothing."""
    stores = {Path(".orchestra/store.sqlite"), Path(".orchestra/store.sqlite-wal")}
    with (loader := loader_of(say)):
        loaded(loader)
        assert not stores & loader.watched()
        with pytest.raises(BindingError):
            ask_of_notes(loader)
        assert stores <= loader.watched()
        say.write("notes/a.md", "A note.")
        assert say.orchestra("ingest", "notes", "--store", "notes")[0] == 0
        assert stamps(stores)
        ask_of_notes(loader)
        assert not stores & loader.watched()
        say.write("orchestra.toml", "nonsense")
        with pytest.raises(ConfigError), loader.load():
            raise AssertionError("it was loaded")
        assert not stores & loader.watched(), "no store mends that"


def test_what_is_watched_is_where_modules_came_from_also_those_that_failed(say: Project) -> None:
    say.write("helpers/words.py", "")
    say.write("pipelines/say.py", "import helpers.words\nimport helpers.broken\n")
    say.write("helpers/broken.py", "def")
    say.write("orchestra.toml", "")
    with (loader := loader_of(say)):
        with pytest.raises(CommandError), loader.load():
            raise AssertionError("it was loaded")
        watched = {
            str(each.relative_to(say.folder) if each.is_absolute() else each)
            for each in loader.watched()
        }
    assert watched == {
        "helpers/broken.py",
        "helpers/words.py",
        "orchestra.toml",
        "pipelines/say.py",
    }
