"""The tables of the stores, in their own schema, and the version of their layout.

As with a state, `LAYOUT` is raised when older versions of orchestra would misread the tables. It is
checked when a connection is made, and before each change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.errors import StoreError

if TYPE_CHECKING:
    from orchestra.stores.postgres.connection import TrioConnection

LAYOUT = 1
"""The layout of this version."""
_LOCK = 0x6F72636865737472  # "orchestr": so that only one process at a time creates the schema

EXTENSION = "CREATE EXTENSION IF NOT EXISTS vector"
_LOOK = """
SELECT current_setting('server_encoding'), to_regclass('orchestra.layout') IS NOT NULL,
    (SELECT quote_ident(nspname::text) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
     WHERE extname = 'vector'), to_regnamespace('orchestra') IS NULL,
    EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('orchestra.passage')
        AND attname = 'words' AND NOT attisdropped)
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
INSERT INTO orchestra.layout SELECT {layout} WHERE NOT EXISTS (SELECT FROM orchestra.layout);
"""
"""STORAGE MAIN keeps vectors in the pages of the table if they fit, since a search reads all of
them. Without `fastupdate`, writers maintain the index of metadata, and no reader has to do it.
"""

WORDS = """
ALTER TABLE orchestra.passage ADD COLUMN IF NOT EXISTS words jsonb,
    ADD COLUMN IF NOT EXISTS word_count integer;
CREATE INDEX IF NOT EXISTS passage_words ON orchestra.passage
    USING gin (words) WITH (fastupdate = off);
CREATE INDEX IF NOT EXISTS passage_word_count ON orchestra.passage (collection, word_count)
    WHERE word_count IS NOT NULL;
CREATE INDEX IF NOT EXISTS passage_without_words ON orchestra.passage (collection)
    WHERE word_count IS NULL;
CREATE OR REPLACE FUNCTION orchestra.forget_words() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.words = OLD.words AND (NEW.text, NEW.metadata) <> (OLD.text, OLD.metadata) THEN
        NEW.words := NULL;
        NEW.word_count := NULL;
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS forget_words ON orchestra.passage;
CREATE TRIGGER forget_words BEFORE UPDATE ON orchestra.passage
    FOR EACH ROW EXECUTE FUNCTION orchestra.forget_words();
"""
"""The columns of the keyword index. They are not a new layout: the trigger removes the words of a
passage that an older orchestra changes, since it does not know the columns (see wording.py). The
indexes are partial, so that Postgres does not use them to search by vectors.
"""

_IS_OWNER = """
SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('orchestra.passage')
"""


async def look(connection: TrioConnection) -> None:
    """Check the database, and set `vector_in` and `has_words` if our schema exists.

    Raises:
        StoreError: the schema was made by a newer orchestra, or the database's encoding is not
            UTF8.
        psycopg.Error: the database cannot be checked.
    """
    row = await (await connection.execute(_LOOK)).fetchone()
    encoding, is_made, vector_in, _, has_words = row or ("", False, None, True, False)
    if encoding != "UTF8":
        raise StoreError(
            f"{connection.place}: the database has the encoding {encoding}, which cannot store "
            "every text; create another with: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE "
            "template0"
        )
    if is_made:
        await check_layout(connection)
        connection.vector_in, connection.has_words = vector_in, has_words


async def check_layout(connection: TrioConnection) -> None:
    """Check that our schema was not made by a newer orchestra.

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


async def make(connection: TrioConnection) -> None:
    """Create the extension, the schema and the tables in the open transaction, unless they exist.

    Raises:
        StoreError: as `look`.
        psycopg.Error: they cannot be created.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    await look(connection)
    if connection.vector_in is None:
        await connection.execute(EXTENSION)
        row = await (await connection.execute(_LOOK)).fetchone()
        *_, vector_in, has_no_schema, _ = row or ("", True, False)
        if has_no_schema:
            await connection.execute(_SCHEMA)
        await connection.execute(_MAKE.format(vector_in=vector_in, layout=LAYOUT))
        await connection.execute(WORDS)
        connection.vector_in, connection.has_words = vector_in, True


async def add_words(connection: TrioConnection) -> bool:
    """Add the columns of the keyword index in the open transaction, unless they exist.

    Returns whether they exist now; only the owner of the table can add them.

    Raises:
        psycopg.Error: they cannot be added.
    """
    if not connection.has_words:
        await look(connection)  # another process may have added them
    row = await (await connection.execute(_IS_OWNER)).fetchone()
    if not connection.has_words and row == (True,):
        await connection.execute(WORDS)
        connection.has_words = True
    return connection.has_words
