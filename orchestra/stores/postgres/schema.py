"""The tables of the stores, in their own schema, and the version of their layout.

As with a state, `LAYOUT` is raised when older versions of orchestra would misread the tables. It is
checked when a connection is made, and before each change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.errors import StoreError

if TYPE_CHECKING:
    from orchestra.stores.postgres.connection import TrioConnection

LAYOUT = 2
"""The layout of this version. Layout 1 had no words of passages, for keyword search."""
_LOCK = 0x6F72636865737472  # "orchestr": so that only one process at a time creates the schema

EXTENSION = "CREATE EXTENSION IF NOT EXISTS vector"
_LOOK = """
SELECT current_setting('server_encoding'), to_regclass('orchestra.layout') IS NOT NULL,
    (SELECT quote_ident(nspname::text) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
     WHERE extname = 'vector'), to_regnamespace('orchestra') IS NULL
"""
_SCHEMA = "CREATE SCHEMA orchestra"  # IF NOT EXISTS would need the privilege in any case
_MAKE = """
CREATE TABLE IF NOT EXISTS orchestra.layout (version integer NOT NULL);
CREATE TABLE IF NOT EXISTS orchestra.collection (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    dimensions integer NOT NULL
);
CREATE TABLE IF NOT EXISTS orchestra.passage (
    collection bigint NOT NULL REFERENCES orchestra.collection,
    id text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    text text NOT NULL,
    metadata jsonb NOT NULL,
    vector {vector_in}.vector NOT NULL,
    PRIMARY KEY (collection, id)
);
ALTER TABLE orchestra.passage ALTER COLUMN vector SET STORAGE MAIN;
CREATE INDEX IF NOT EXISTS passage_source ON orchestra.passage (collection, source);
CREATE INDEX IF NOT EXISTS passage_metadata ON orchestra.passage
    USING gin (metadata jsonb_path_ops) WITH (fastupdate = off);
ALTER TABLE orchestra.collection ADD COLUMN IF NOT EXISTS worded boolean NOT NULL DEFAULT false;
CREATE TABLE IF NOT EXISTS orchestra.wording (
    collection bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    length integer NOT NULL,
    words text[] COLLATE "C" NOT NULL,
    counts integer[] NOT NULL,
    PRIMARY KEY (collection, id)
);
CREATE INDEX IF NOT EXISTS wording_length ON orchestra.wording (collection, length);
CREATE INDEX IF NOT EXISTS wording_words ON orchestra.wording
    USING gin (words) WITH (gin_pending_list_limit = 256);
INSERT INTO orchestra.layout SELECT {layout} WHERE NOT EXISTS (SELECT FROM orchestra.layout);
UPDATE orchestra.layout SET version = {layout};
"""
"""STORAGE MAIN keeps vectors in the pages of the table if they fit, since a search reads all of
them. Without `fastupdate`, writers maintain the index of metadata, and no reader has to do it. The
index of words has a hundred entries for a passage: written 256 kB at once, they take half the time.
"""


async def look(connection: TrioConnection) -> None:
    """Check the database, and set `connection.vector_in` if our schema exists.

    Raises:
        StoreError: the schema was made by a newer orchestra, or the database's encoding is not
            UTF8.
        psycopg.Error: the database cannot be checked.
    """
    row = await (await connection.execute(_LOOK)).fetchone()
    encoding, is_made, vector_in, _ = row or ("", False, None, True)
    if encoding != "UTF8":
        raise StoreError(
            f"{connection.place}: the database has the encoding {encoding}, which cannot store "
            "every text; create another with: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE "
            "template0"
        )
    if is_made:
        await check_layout(connection)
        connection.vector_in = vector_in


async def check_layout(connection: TrioConnection) -> int:
    """The layout of our schema, after checking that it was not made by a newer orchestra.

    Raises:
        StoreError: it was.
        psycopg.Error: the layout cannot be read.
    """
    row = await (await connection.execute("SELECT version FROM orchestra.layout")).fetchone()
    layout = row[0] if row else 0
    if layout > LAYOUT:
        raise StoreError(
            f"{connection.place}: its schema orchestra was made by a newer orchestra (its layout "
            f"is {layout}, this one knows {LAYOUT}), and nothing was changed; upgrade this one, or "
            "give it a database of its own"
        )
    return int(layout)


async def make(connection: TrioConnection) -> None:
    """Create the extension, the schema and the tables in the open transaction, unless they exist.

    Tables of an older layout are changed to this one.

    Raises:
        StoreError: as `look`.
        psycopg.Error: they cannot be created.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    await look(connection)
    if connection.vector_in is None:
        await connection.execute(EXTENSION)
        row = await (await connection.execute(_LOOK)).fetchone()
        *_, connection.vector_in, has_no_schema = row or ("", True)
        if has_no_schema:
            await connection.execute(_SCHEMA)
    elif await check_layout(connection) == LAYOUT:
        return
    await connection.execute(_MAKE.format(vector_in=connection.vector_in, layout=LAYOUT))
