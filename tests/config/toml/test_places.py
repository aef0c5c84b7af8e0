"""Where keys stand in a TOML file: the same keys as `tomllib` finds, each on its line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from textwrap import dedent

from hypothesis import assume, example, given
from hypothesis import strategies as st

from orchestra.config.toml.places import Path, line_of, places

KEYS = st.sampled_from(
    ["a", "b", "c-d", "e_1", "7", '"a b"', '"a.b"', "'it]s'", '"h#h"', '"q\\"q"', "true", "'='"]
)
DOTTED = st.lists(KEYS, min_size=1, max_size=3).map(" . ".join)
SCALARS = st.sampled_from(
    [
        "1",
        "1_000",
        "-1.5e3",
        "inf",
        "true",
        "1979-05-27T07:32:00.5-08:00",
        "1979-05-27 07:32:00",
        "07:32:00.25",
        '"text"',
        '"[x] = # \\" \\\\"',
        "'c:\\dir'",
        "''",
        '""',
        '"""\none\n[two]\nx = 3 \\\n  "" four"""""',
        "'''\n[five]\n# six''''",
    ]
)


def inside(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    gap = st.sampled_from(["", " ", "\n  ", " # ]\n"])
    array = st.tuples(st.lists(values, max_size=3), gap).map(
        lambda drawn: f"[{drawn[1]}" + f",{drawn[1]}".join(drawn[0]) + f"{drawn[1]}]"
    )
    pair = st.tuples(DOTTED, values).map(" = ".join)
    inline = st.lists(pair, max_size=2).map(lambda pairs: "{ " + ", ".join(pairs) + " }")
    return st.one_of(array, inline)


VALUES = st.recursive(SCALARS, inside, max_leaves=4)
LINES = st.one_of(
    st.sampled_from(["", "# a = [comment]", "   "]),
    DOTTED.map("[{}] # ]".format),
    DOTTED.map("[[ {} ]]".format),
    st.tuples(DOTTED, VALUES).map(" = ".join),
)
TEXTS = st.tuples(st.lists(LINES, max_size=8), st.sampled_from(["\n", "\r\n"])).map(
    lambda drawn: drawn[1].join(drawn[0])
)


def paths(value: object, path: Path = ()) -> Iterator[Path]:
    """Every path in what TOML was read as; the model that the scanner is compared with."""
    children: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    for key, child in children:
        yield (*path, key)
        yield from paths(child, (*path, key))


def read(text: str) -> dict[str, object] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


@given(TEXTS)
@example('[[a]]\nb.c = 1\n[[a]]\nb."d" = [{x = 1}, [2, \n3]]\n[a.e]\n')
@example("[a.b]\n[a]\nc = '''\n[d]\n'''\nf = 1\n")
def test_every_key_is_found_and_nothing_else(text: str) -> None:
    """The keys are those that `tomllib` finds, and each stands on the line that is told."""
    found = read(text)
    assume(found is not None)
    told = places(text)
    assert set(told) == set(paths(found))
    lines = text.split("\n")
    for path, line in told.items():
        last = path[-1]
        if isinstance(last, str):
            assert last.replace('"', '\\"') in lines[line - 1], (path, line)


def test_a_table_is_where_its_header_is() -> None:
    text = dedent("""\
        # models
        [models.default]
        provider = "openai"

        [models]
        fast.model = "x"
        fast.provider = "y"
        """)
    assert places(text) == {
        ("models",): 5,
        ("models", "default"): 2,
        ("models", "default", "provider"): 3,
        ("models", "fast"): 6,
        ("models", "fast", "model"): 6,
        ("models", "fast", "provider"): 7,
    }


def test_a_long_file_takes_no_longer_for_each_line() -> None:
    text = "".join(f'[models.m{i}]\nmodel = "{"x" * 100}" # {"y" * 100}\n' for i in range(2000))
    assert len(places(text)) == 4001


def test_what_is_not_there_stands_where_it_would_be_written() -> None:
    found = places("\n[a]\nb = 1")
    assert [line_of(path, found) for path in [("a", "b"), ("a", "c"), ("c",)]] == [3, 2, 1]
