"""`orchestra keys`: a key is shown once, may do what it was made for, and is ended at once."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import trio

from orchestra.access.keyring import Keyring
from orchestra.access.keys import Refusal
from orchestra.access.principal import Principal, Scopes
from orchestra.access.token import parsed
from orchestra.accounts import Caller, KeyAllowance
from orchestra.cli.callers.durations import duration_text, parse_duration_s
from orchestra.cli.failures import FAILED, MISUSED, CommandError
from orchestra.config import bindings, default_bindings
from tests.cli.conftest import Project
from tests.patience import PATIENCE_S
from tests.stores.states import shared_redis

ADAS = ("--organisation", "acme", "--user", "ada", "--pipelines", "answer,chat")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test machine is busy."""
    monkeypatch.setattr(bindings, "KEYS_TIMEOUT_S", 30.0)


def asked(token: str) -> Principal | Refusal:
    """What a server in this folder says of a token."""
    with default_bindings() as found:
        return trio.run(Keyring(found.keys).authenticate, token)


def created(project: Project, *words: str) -> str:
    code, out, _ = project.orchestra("keys", "create", *words)
    assert code == 0
    return out.strip()


def listed(project: Project, *words: str) -> list[dict[str, object]]:
    code, out, _ = project.orchestra("keys", "list", "--json", *words)
    assert code == 0
    found: list[dict[str, object]] = json.loads(out)
    return found


def test_a_key_may_do_what_it_was_made_for_and_is_all_of_the_output(project: Project) -> None:
    limits = ("--requests-per-minute", "60", "--tokens-per-minute", "1000", "--concurrency", "4")
    money = ("--day-dollars", "5", "--month-dollars", "0.1")
    code, out, err = project.orchestra(
        *("keys", "create", *ADAS, "--models", "*", "--routes", "fast,smart", "--name", "laptop"),
        *("--expires", "90d", *limits, *money),
    )
    assert code == 0
    token = parsed(out.removesuffix("\n"))
    assert token is not None
    assert token.secret not in err
    assert f"key {token.id} (laptop) of acme/ada, until " in err
    assert f"is in {project.folder / '.orchestra' / 'keys.sqlite'}" in err
    assert asked(token.text) == Principal(
        Caller(
            "acme",
            "ada",
            token.id,
            KeyAllowance(
                requests_per_minute=60,
                tokens_per_minute=1000,
                concurrency=4,
                day_nanodollars=5 * 10**9,
                month_nanodollars=10**8,
            ),
        ),
        Scopes(frozenset({"answer", "chat"}), frozenset({"*", "fast", "smart"})),
    )


def test_the_file_of_the_keys_is_its_owners_alone_and_made_with_the_first(project: Project) -> None:
    code, out, err = project.orchestra("keys", "list")
    assert (code, out) == (0, "")
    assert "there are no keys yet in" in err
    assert not (project.folder / ".orchestra").exists()
    text = created(project, *ADAS)
    (file,) = Path(project.folder, ".orchestra").iterdir()
    assert file.name == "keys.sqlite"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert text.encode()[16:] not in file.read_bytes()


@pytest.mark.parametrize("url", ["sqlite:state.sqlite", "redis"])
def test_keys_are_kept_in_the_state_if_it_outlives_the_process(project: Project, url: str) -> None:
    url = f"redis://127.0.0.1:{shared_redis().port}/7" if url == "redis" else url
    project.write("orchestra.toml", f'[state]\nurl = "{url}"\ntimeout_s = 10\n')
    text = created(project, *ADAS)
    assert isinstance(asked(text), Principal)
    (key,) = listed(project)
    code, out, _ = project.orchestra("keys", "revoke", str(key["id"]))
    assert (code, out) == (0, f"key {key['id']} of acme/ada is revoked\n")
    found = asked(text)
    assert isinstance(found, Refusal)
    assert found.reason == "revoked"
    files = sorted(path.name for path in project.folder.rglob("*.sqlite"))
    assert files == (["state.sqlite"] if url.startswith("sqlite") else [])


def test_a_rotated_key_is_the_same_with_another_secret(project: Project) -> None:
    first = created(project, *ADAS, "--name", "laptop")
    code, second, err = project.orchestra("keys", "rotate", first[4:15], "--grace", "1h")
    second = second.strip()
    assert code == 0
    assert "the old one works for 1 hour more" in err
    assert asked(first) == asked(second)
    assert isinstance(asked(first), Principal)
    code, out, err = project.orchestra("keys", "rotate", first, "--expires", "1d", "--json")
    third = json.loads(out)
    assert "the old one is refused from now on" in err
    assert isinstance(asked(third.pop("key")), Principal)
    for old in (first, second):
        found = asked(old)
        assert isinstance(found, Refusal)
        assert found.reason == "expired"
    (listed_key,) = listed(project)
    assert listed_key == {**third, "last_used_s": listed_key["last_used_s"]}
    assert third["expires_s"] - third["rotated_s"] == 86_400


@pytest.mark.parametrize("words", [["create", *ADAS], ["rotate"], ["rotate", "--json"]])
def test_a_secret_that_could_not_be_printed_is_said_to_be_lost(
    project: Project, words: list[str]
) -> None:
    """As where a script writes it to a full disk: after a rotation, nobody has a key."""
    if words[0] == "rotate":
        words = ["rotate", created(project, *ADAS)[4:15], *words[1:]]
    with Path("/dev/full").open("wb") as full:
        process = project.launch("keys", *words, stdout=full)
    _, err = process.communicate(timeout=PATIENCE_S)
    (key,) = listed(project)
    assert process.returncode == FAILED
    assert err.startswith(f"error: key {key['id']} is in force, but could not be".encode())
    assert f"`orchestra keys rotate {key['id']}` gives it another".encode() in err


def test_a_key_may_be_for_the_metrics_alone(project: Project) -> None:
    text = created(project, "--user", "prometheus", "--metrics")
    _, table, _ = project.orchestra("keys", "list")
    assert "METRICS" in table
    found = asked(text)
    assert isinstance(found, Principal)
    assert found.scopes == Scopes(metrics=True)
    code, _, err = project.orchestra("keys", "change", text, "--no-metrics")
    assert (code, err.count("a key needs rights")) == (FAILED, 1)
    project.orchestra("keys", "change", text, "--no-metrics", "--models", "*")
    _, table, _ = project.orchestra("keys", "list")
    assert "METRICS" not in table


def test_a_key_may_name_the_end_users_of_its_organisation(project: Project) -> None:
    text = created(project, "--organisation", "acme", "--models", "*", "--end-users")
    _, table, _ = project.orchestra("keys", "list")
    assert "END USERS" in table
    assert listed(project)[0]["end_users"] is True
    found = asked(text)
    assert isinstance(found, Principal)
    assert found.scopes == Scopes(models=frozenset({"*"}), end_users=True)
    assert project.orchestra("keys", "change", text, "--no-end-users")[0] == 0
    _, table, _ = project.orchestra("keys", "list")
    assert "END USERS" not in table
    assert project.orchestra("keys", "change", text, "--end-users")[0] == 0
    assert asked(text) == found


def test_a_key_without_an_organisation_names_nobody(project: Project) -> None:
    code, out, err = project.orchestra(
        *("keys", "create", "--user", "ada", "--models", "*", "--end-users")
    )
    assert (code, out) == (MISUSED, "")
    assert "say which with --organisation" in err
    text = created(project, "--user", "ada", "--models", "*")
    code, _, err = project.orchestra("keys", "change", text, "--end-users")
    assert code == FAILED
    assert "end users belong to the key's organisation" in err


def test_a_changed_key_is_another_in_what_was_said_and_has_the_same_secret(
    project: Project,
) -> None:
    text = created(project, *ADAS, "--name", "laptop", "--concurrency", "3", "--day-dollars", "5")
    (before,) = listed(project)
    code, table, _ = project.orchestra(
        *("keys", "change", text, "--pipelines", "count", "--routes", "either"),
        *("--concurrency", "none", "--day-dollars", "7.5", "--expires", "90d"),
    )
    assert code == 0
    assert "laptop  acme/ada  count      either  $7.5/day" in table
    (after,) = listed(project)
    named = {"pipelines": ["count"], "models": ["either"], "concurrency": None}
    ends = {"day_nanodollars": 7_500_000_000, "expires_s": after["expires_s"]}
    assert after == before | named | ends
    found = asked(text)
    assert isinstance(found, Principal)
    assert found.scopes == Scopes(frozenset({"count"}), frozenset({"either"}))
    _, out, _ = project.orchestra("keys", "change", text, "--expires", "never", "--json")
    assert json.loads(out)["expires_s"] is None


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), MISUSED, "name what to change, such as"),
        (("--expires", "soon"), MISUSED, "--expires 'soon' is not a time"),
        (("--expires", "0d"), MISUSED, "--expires: 0 s is out of bounds"),
        (("--concurrency", "0"), MISUSED, "error: --concurrency: 0 is out of bounds; give 1"),
        (("--concurrency", "-1"), MISUSED, "--concurrency '-1' is not a whole number; write 60"),
        (("--day-dollars", "much"), MISUSED, "--day-dollars 'much' is not a number of dollars"),
        (("--name", "a\tb"), MISUSED, "name: 'a\\tb' begins or ends with a space"),
        (("--pipelines", ""), FAILED, "a key needs rights"),
    ],
)
def test_what_no_key_can_become_is_refused_and_changes_nothing(
    project: Project, words: tuple[str, ...], code: int, says: str
) -> None:
    text = created(project, *ADAS)
    before = listed(project)
    found, out, err = project.orchestra("keys", "change", text, *words)
    assert (found, out) == (code, "")
    assert says in err
    assert listed(project) == before


def test_a_key_that_was_revoked_is_changed_no_more(project: Project) -> None:
    text = created(project, *ADAS)
    project.orchestra("keys", "revoke", text)
    code, _, err = project.orchestra("keys", "change", text, "--expires", "never")
    assert code == FAILED
    assert "was revoked, which cannot be undone: create another key" in err


def test_a_list_shows_all_of_a_key_but_its_secret(project: Project) -> None:
    texts = [
        created(project, *ADAS, "--name", "laptop", "--day-dollars", "2.50", "--concurrency", "3"),
        created(project, "--user", "bob", "--models", "*", "--expires", "2d"),
    ]
    project.orchestra("keys", "revoke", texts[0])
    code, table, err = project.orchestra("keys", "list")
    assert (code, err) == (0, "")
    head, adas, bobs = table.splitlines()
    assert head.split()[:4] == ["ID", "NAME", "OWNER", "PIPELINES"]
    assert "laptop  acme/ada  answer,chat  -       3 at once, $2.5/day" in adas
    assert "revoked on 20" in adas
    assert "bob" in bobs
    assert "active until 20" in bobs
    _, as_json, _ = project.orchestra("keys", "list", "--json")
    for text in texts:
        token = parsed(text)
        assert token is not None
        assert token.id in table
        assert token.id in as_json
        assert token.secret not in table + as_json
    assert not {"secret", "salt", "digest", "replaced"} & listed(project)[0].keys()
    assert [key["user"] for key in listed(project, "--organisation", "acme")] == ["ada"]
    assert [key["user"] for key in listed(project, "--user", "bob")] == ["bob"]
    assert listed(project, "--user", "eve") == []
    assert "there are no such keys" in project.orchestra("keys", "list", "--user", "eve")[2]


def test_what_was_made_can_be_read_by_a_script(project: Project) -> None:
    code, out, _ = project.orchestra("keys", "create", *ADAS, "--json")
    made = json.loads(out)
    assert code == 0
    key = made.pop("key")
    assert listed(project) == [{**made, "last_used_s": None}]
    assert isinstance(asked(key), Principal)
    (used,) = listed(project)
    assert used["last_used_s"] >= made["created_s"]
    assert "LAST USED (UTC)" in project.orchestra("keys", "list")[1]
    _, out, _ = project.orchestra("keys", "revoke", made["id"], "--json")
    assert json.loads(out)["state"] == "revoked"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--user", "ada"), "name the pipelines that it may run with --pipelines"),
        ((), "only --metrics, for Prometheus\n  a key needs an owner: --organisation, --user, or"),
        (("--user", "ada", "--pipelines", " ,"), "orchestra keys create --organisation acme"),
        (("--models", "*"), "a key needs an owner: --organisation, --user, or both"),
        (
            (*ADAS, "--name", "a\tb"),
            "name: 'a\\tb' begins or ends with a space, or contains a control",
        ),
        ((*ADAS, "--expires", "90"), "--expires '90' is not a time; write a whole number"),
        ((*ADAS, "--expires", "0d"), "--expires: 0 s is out of bounds"),
        ((*ADAS, "--day-dollars", "much"), "--day-dollars 'much' is not a number of dollars"),
        ((*ADAS, "--day-dollars", "NaN"), "is not a number of dollars"),
        ((*ADAS, "--day-dollars", "1e999999"), "--day-dollars '1e999999' is not a number of doll"),
        ((*ADAS, "--day-dollars", "1e5000"), "--day-dollars '1e5000' is not a number of dollars"),
        ((*ADAS, "--day-dollars", "1e10"), "--day-dollars, in nano-dollars: 10000000000000000000 "),
        ((*ADAS, "--day-dollars", "1e-10"), "with at most nine decimals"),
        ((*ADAS, "--month-dollars", "-1"), "--month-dollars, in nano-dollars: -1000000000 is out"),
        (
            (*ADAS, "--concurrency", "0"),
            "error: --concurrency: 0 is out of bounds; give 1 to 1000",
        ),
    ],
)
def test_what_is_no_key_is_refused_with_what_to_write(
    project: Project, words: tuple[str, ...], says: str
) -> None:
    code, out, err = project.orchestra("keys", "create", *words)
    assert (code, out) == (MISUSED, "")
    assert says in err
    assert not (project.folder / ".orchestra").exists()


def test_a_model_that_nothing_has_is_noted_and_allowed_all_the_same(project: Project) -> None:
    code, _, err = project.orchestra("keys", "create", "--user", "ada", "--models", "fst,later")
    assert code == 0
    assert "no model or route named 'fst' in this configuration; did you mean 'fast'?" in err
    assert "no model or route named 'later' in this configuration\n" in err


def test_a_pipeline_that_no_module_has_is_noted_and_allowed_all_the_same(project: Project) -> None:
    """Its module is not imported: a name that is written in it will do."""
    create = ("keys", "create", "--user", "ada", "--pipelines")
    assert "no pipeline named" not in project.orchestra(*create, "tikcs")[2]  # nothing is known
    (project.folder / "pipelines").mkdir()
    source = "@pipeline\ndef ticks() -> str: ...\n@pipeline(name='of-old')\ndef tocks(): ...\n"
    (project.folder / "pipelines" / "clock.py").write_text(source)
    (project.folder / "pipelines" / "gone.py").symlink_to("nowhere")  # of which nothing is known
    code, out, err = project.orchestra(*create, "tikcs,ticks,of-old,*")
    assert (code, err.count("no pipeline named")) == (0, 1)
    assert "there is no pipeline named 'tikcs' in pipelines/; did you mean 'ticks'?" in err
    _, _, err = project.orchestra("keys", "change", out[5:16], "--pipelines", "of-odl")
    assert "there is no pipeline named 'of-odl' in pipelines/; did you mean 'of-old'?" in err


def test_what_is_not_there_is_neither_rotated_nor_changed_nor_revoked(project: Project) -> None:
    for act in (["rotate"], ["revoke"], ["change", "--name", "x"]):
        code, out, err = project.orchestra("keys", act[0], "0123456789a", *act[1:])
        assert (code, out) == (FAILED, "")
        assert "there is no key 0123456789a" in err
    assert not (project.folder / ".orchestra").exists()


def test_times_are_read_and_spoken() -> None:
    said = {"45s": 45, "5m": 300, "12h": 43_200, "90d": 7_776_000, "2w": 1_209_600}
    assert {text: parse_duration_s("--grace", text) for text in said} == said
    assert [duration_text(each) for each in (0.5, 1, 59, 60, 7200, 86_400)] == [
        *("no time", "1 second", "59 seconds", "1 minute", "2 hours", "1 day")
    ]
    for wrong in ("", "h", "1.5h", "-1h", "1y", "1h ", "9999999999s", "٣d"):
        with pytest.raises(CommandError):
            parse_duration_s("--grace", wrong)
