#!/usr/bin/env python3
"""How attributes of cards are best indexed for customer segments: measures the candidates on both databases.

    nice -n 10 python3 benches/attributes.py [--cards 100000] [--repeats 7]

It takes the tables from migrations/, fills them with the cards of one workspace, and measures for each candidate how
long it takes to build, how large it is, what questions take ("points >= 9900"), and what it adds to writing cards.

    A     no index: the JSON text of each card is read
    B     expression indexes on the JSON text, one for each attribute of the template
    B500  the same in a database where a hundred other tenants have five such indexes each
    C     a side table card_attributes with a row for each value and a partial index for each type of value
    Cn    the same with a number instead of workspace, template and name
    D     jsonb GIN (PostgreSQL only)

SQLite runs as in src/store/mod.rs: WAL, synchronous FULL, secure_delete. PostgreSQL is started in a temporary directory
with its defaults (by root as the user postgres or nobody) and is reached through psql, whose \\timing measures; its
sessions are set as in src/store/mod.rs. Cards are written by the statements of src/store/cards.rs; what else the service
does in the transaction (events, positions, marks) is the same for all candidates and left out. Everything is in the
memory of the database or of the system. Numbers are medians, in milliseconds. Only the standard library is used, and
everything is removed afterwards.
"""

import argparse
import contextlib
import datetime
import glob
import json
import os
import pwd
import random
import re
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORKSPACE, TEMPLATE = "ws_3kq9v7x2m4", "loyalty-card"
NAMES = ["points", "tier", "name", "birthday", "balance"]  # their places are their numbers in Cn
PAGE, BATCH = 500, 500
SINGLE_UPDATES = 51
OTHER_TENANTS = 100

OURS = f"workspace_id = '{WORKSPACE}' AND template_id = '{TEMPLATE}'"
SELECTIVE, UNSELECTIVE = 9900, 7000  # points are 0 to 9999: 1 % and 30 % of the cards
WEEK = ("06-10", "06-16")  # birthdays of seven days: 1.9 %


# ---------------------------------------------------------------------------------------------------------------- cards


def some_attributes(rng):
    """Returns the attributes of one card. A tenth is gold."""
    birthday = datetime.date(1940, 1, 1) + datetime.timedelta(days=rng.randrange(365 * 65))
    return {
        "points": rng.randrange(10_000),
        "tier": rng.choices(["gold", "silver", "bronze"], [10, 30, 60])[0],
        "name": rng.choice(["Anna", "Jānis", "Marta", "Pēteris", "Līga"]) + f" {rng.randrange(100_000)}",
        "birthday": birthday.isoformat(),
        "balance": f"{rng.randrange(20_000) / 100:.2f}",
    }


def typed(name, value):
    """Returns the side table's row of a value."""
    row = {"name": name, "attribute": NAMES.index(name), "text": None, "number": None, "time": None, "month_day": None}
    if name == "birthday":
        day = datetime.date.fromisoformat(value)
        row["time"] = (day - datetime.date(1970, 1, 1)).days * 86_400_000_000
        row["month_day"] = day.month * 100 + day.day
    elif name in ("points", "balance"):
        row["number"] = float(value)
    else:
        row["text"] = value
    return row


def entry(n, attributes, changed, now):
    """Returns a card's entry of a batch; `changed` are the names of the attributes whose rows are written."""
    return {
        "id": f"member-{n:08}", "serial": f"{n:032x}", "template": TEMPLATE, "locale": "lv",
        "attributes": json.dumps(attributes, ensure_ascii=False, separators=(",", ":")), "state": "active",
        "expires_at": None, "expired_at": None, "sequence": now, "revision": now, "position": now, "modified": now,
        "page_generation": 0, "page_token_hash": f"{n:064x}", "live_message": None, "message": None, "created_at": 1,
        "updated_at": 1_800_000_000_000_000 + now * 1000 + n % 1000,
        "values": [typed(name, attributes[name]) for name in changed],
    }


COLUMNS = {  # of a batch, with PostgreSQL's types
    "id": "text", "serial": "text", "template": "text", "locale": "text", "attributes": "text", "state": "text",
    "expires_at": "bigint", "expired_at": "bigint", "sequence": "bigint", "revision": "bigint", "position": "bigint",
    "modified": "bigint", "page_generation": "bigint", "page_token_hash": "text", "live_message": "text",
    "message": "text", "created_at": "bigint", "updated_at": "bigint",
}
UPDATED = [c for c in COLUMNS if c not in ("id", "serial", "template", "page_generation", "page_token_hash")]
INSERTED = [c for c in COLUMNS if c not in ("serial", "template", "page_token_hash")]
INSERT_INTO = f"""INSERT INTO cards (workspace_id, serial_number, template_id, page_token_hash, {", ".join(INSERTED)})
    SELECT '{WORKSPACE}', serial, template, """

# ------------------------------------------------------------------------------------------------------------ databases


class Sqlite:
    """A database in a file."""

    name = "SQLite"
    double, side_table_options = "REAL", "WITHOUT ROWID"
    # An item of a batch by its names, and a batch's rows.
    rows = "(SELECT {} FROM json_each(:batch))".format(", ".join(f"value ->> '{c}' AS {c}" for c in COLUMNS))
    insert = f"{INSERT_INTO} unhex_(page_token_hash), {', '.join(INSERTED)} FROM {rows}"
    update = f"""WITH e AS MATERIALIZED (SELECT * FROM {rows})
        UPDATE cards SET template_id = e.template, {", ".join(f"{c} = e.{c}" for c in UPDATED)}
        FROM e WHERE cards.workspace_id = '{WORKSPACE}' AND cards.id = e.id"""
    batch_values = """(SELECT e.value ->> 'id' AS card, v.value ->> 'name' AS name, v.value ->> 'attribute' AS attribute,
        v.value ->> 'text' AS text, v.value ->> 'number' AS number, v.value ->> 'time' AS time,
        v.value ->> 'month_day' AS month_day FROM json_each(:batch) e, json_each(e.value, '$.values') v)"""
    stored_values = """(SELECT c.workspace_id, c.template_id, c.id AS card, j.key AS name,
        CASE WHEN j.key IN ('tier', 'name') THEN j.value END AS text,
        CASE WHEN j.key IN ('points', 'balance') THEN CAST(j.value AS REAL) END AS number,
        CASE WHEN j.key = 'birthday' THEN CAST(strftime('%s', j.value) AS INTEGER) * 1000000 END AS time,
        CASE WHEN j.key = 'birthday' THEN CAST(strftime('%m%d', j.value) AS INTEGER) END AS month_day
        FROM cards c, json_each(c.attributes) j)"""
    points = "json_extract(attributes, '$.points')"
    tier = "json_extract(attributes, '$.tier')"
    name_ = "json_extract(attributes, '$.name')"
    month_day = "substr(json_extract(attributes, '$.birthday'), 6)"
    balance = "CAST(json_extract(attributes, '$.balance') AS REAL)"

    def __init__(self, directory):
        self.directory = directory
        self.base = os.path.join(directory, "base.db")

    def open(self, path):
        """Opens a file with the settings of src/store/mod.rs."""
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.create_function("unhex_", 1, bytes.fromhex, deterministic=True)  # `unhex` came after 3.40
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            self.connection.execute(f"PRAGMA {pragma}")

    def make(self, schema):
        self.open(self.base)
        self.connection.executescript(schema)

    def copy(self, name):
        """Closes the open database and opens a copy of the filled one."""
        self.settle()
        self.connection.close()
        if self.path != self.base:
            os.remove(self.path)
        path = os.path.join(self.directory, f"{name}.db")
        shutil.copyfile(self.base, path)
        self.open(path)

    def run(self, *statements, batch=None):
        """Runs statements, more than one in a transaction; returns the last one's rows and the milliseconds."""
        statements = statements if len(statements) == 1 else ("BEGIN IMMEDIATE", *statements, "COMMIT")
        rows, started = [], time.perf_counter()
        for sql in statements:
            rows = self.connection.execute(sql, {"batch": batch} if ":batch" in sql else {}).fetchall() or rows
        return rows, (time.perf_counter() - started) * 1000

    def settle(self):
        """Does what the database does by itself in quiet moments."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def size(self):
        sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        return self.connection.execute(sql).fetchone()[0]

    @staticmethod
    def by_index(key, table, where, condition, after):
        """A page found by the condition's index, then sorted."""
        return f"""SELECT {key} FROM {table} WHERE {where} AND {condition} AND +{key} > '{after}'
            ORDER BY +{key} LIMIT {PAGE}"""

    @staticmethod
    def by_walk(key, table, where, condition, after):
        """A page found by going through the keys in their order."""
        return f"""SELECT {key} FROM {table} WHERE {where} AND +{condition} AND {key} > '{after}'
            ORDER BY {key} LIMIT {PAGE}"""

    def close(self):
        self.connection.close()


class Postgres:
    """A server of its own, reached through one psql."""

    name = "PostgreSQL"
    double, side_table_options = "DOUBLE PRECISION", ""
    rows = "json_to_recordset(CAST(:batch AS json)) AS r({})".format(", ".join(f"{c} {t}" for c, t in COLUMNS.items()))
    insert = f"{INSERT_INTO} decode(page_token_hash, 'hex'), {', '.join(INSERTED)} FROM {rows}"
    update = f"""WITH e AS MATERIALIZED (SELECT r.*, c.place FROM {rows} CROSS JOIN LATERAL
            (SELECT ctid AS place FROM cards WHERE workspace_id = '{WORKSPACE}' AND cards.id = r.id OFFSET 0) c)
        UPDATE cards SET template_id = e.template, {", ".join(f"{c} = e.{c}" for c in UPDATED)}
        FROM e WHERE cards.ctid = e.place"""
    batch_values = """(SELECT e.id AS card, v.* FROM json_to_recordset(CAST(:batch AS json)) AS e(id text, "values" json)
        CROSS JOIN LATERAL json_to_recordset(e."values") AS v(name text, attribute bigint, text text,
            number double precision, time bigint, month_day bigint))"""
    stored_values = """(SELECT c.workspace_id, c.template_id, c.id AS card, j.key AS name,
        CASE WHEN j.key IN ('tier', 'name') THEN j.value END AS text,
        CASE WHEN j.key IN ('points', 'balance') THEN CAST(j.value AS double precision) END AS number,
        CASE WHEN j.key = 'birthday' THEN CAST(extract(epoch FROM CAST(j.value AS date)) AS bigint) * 1000000 END AS time,
        CASE WHEN j.key = 'birthday' THEN CAST(to_char(CAST(j.value AS date), 'MMDD') AS bigint) END AS month_day
        FROM cards c CROSS JOIN LATERAL json_each_text(CAST(c.attributes AS json)) j)"""
    points = "CAST(CAST(attributes AS jsonb) ->> 'points' AS bigint)"
    tier = "(CAST(attributes AS jsonb) ->> 'tier')"
    name_ = "(CAST(attributes AS jsonb) ->> 'name')"
    month_day = "substr(CAST(attributes AS jsonb) ->> 'birthday', 6)"
    balance = "CAST(CAST(attributes AS jsonb) ->> 'balance' AS numeric)"

    def __init__(self, directory):
        self.directory = os.path.join(directory, "postgres")
        binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]))
        self.binaries = binaries[-1] if binaries else os.path.dirname(shutil.which("initdb") or "")
        os.mkdir(self.directory)
        self.as_user = {}
        if os.getuid() == 0:  # the server refuses to be run by root
            names = {user.pw_name for user in pwd.getpwall()}
            user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            self.as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            os.chmod(directory, 0o755)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        data = os.path.join(self.directory, "data")
        subprocess.run([f"{self.binaries}/initdb", "-D", data, "--auth", "trust", "--username", "postgres", "--encoding",
                        "UTF8", "--locale", "C"], check=True, stdout=subprocess.DEVNULL, cwd="/", **self.as_user)
        log = open(os.path.join(self.directory, "log"), "wb")
        self.server = subprocess.Popen(
            [f"{self.binaries}/postgres", "-D", data, "-p", str(self.port), "-k", self.directory,
             "-c", "listen_addresses="],
            stdout=log, stderr=log, cwd="/", **self.as_user)
        self.psql = None
        for _ in range(100):
            if self.once("SELECT 1", "postgres")[0]:
                break
            time.sleep(0.1)

    def command(self, database):
        return [f"{self.binaries}/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.directory,
                "-p", str(self.port), "-U", "postgres", "-d", database]

    def once(self, sql, database=None):
        """Runs statements in a session of their own; whether they succeeded, and what psql wrote."""
        done = subprocess.run(self.command(database or self.database), input=sql, text=True, capture_output=True)
        return done.returncode == 0, done.stdout + done.stderr

    def open(self, database):
        self.database = database
        self.psql = subprocess.Popen(self.command(database), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True)
        self.run("SET enable_seqscan = off")
        self.run("SET jit = off")

    def end_session(self):
        if self.psql:
            self.psql.stdin.close()
            self.psql.wait()

    def make(self, schema):
        self.once("CREATE DATABASE base", "postgres")
        self.open("base")
        self.run(schema)

    def copy(self, name):
        self.end_session()
        if self.database != "base":
            self.once(f"DROP DATABASE {self.database}", "postgres")
        fine, said = self.once(f"CREATE DATABASE {name.lower()} TEMPLATE base", "postgres")
        if not fine:
            raise RuntimeError(said)
        self.open(name.lower())

    def run(self, *statements, batch=None):
        """As for SQLite; the milliseconds are psql's."""
        statements = statements if len(statements) == 1 else ("BEGIN", *statements, "COMMIT")
        argument = "'" + (batch or "").replace("'", "''") + "'"
        text = "".join(sql.replace(":batch", argument) + ";\n" for sql in statements)
        self.psql.stdin.write(f"\\timing on\n{text}\\timing off\n\\echo end of answer\n")
        self.psql.stdin.flush()
        rows, milliseconds = [], 0.0
        for line in self.psql.stdout:
            line = line.rstrip("\n")
            if line == "end of answer":
                return rows, milliseconds
            if line.startswith("Time: "):
                milliseconds += float(line.split()[1])
            elif line:
                rows.append(tuple(line.split("|")))
        raise RuntimeError("\n".join("|".join(row) for row in rows))

    def settle(self):
        self.run("VACUUM ANALYZE")
        self.run("CHECKPOINT")

    def size(self):
        return int(self.run("SELECT pg_database_size(current_database())")[0][0][0])

    @staticmethod
    def by_index(key, table, where, condition, after):
        return f"""SELECT {key} FROM (SELECT {key} FROM {table} WHERE {where} AND {condition} OFFSET 0) s
            WHERE {key} > '{after}' ORDER BY {key} LIMIT {PAGE}"""

    @staticmethod
    def by_walk(key, table, where, condition, after):
        # The condition is computed in the select list, where no index can be used for it.
        return f"""SELECT {key} FROM (SELECT {key}, {condition} AS fits FROM {table} WHERE {where} AND {key} > '{after}'
            ORDER BY {key} OFFSET 0) s WHERE fits LIMIT {PAGE}"""

    def close(self):
        with contextlib.suppress(Exception):
            self.end_session()
        self.server.send_signal(signal.SIGINT)  # fast shutdown
        self.server.wait()


# ----------------------------------------------------------------------------------------------------------- candidates


class NoIndex:
    """A: nothing is built; questions read the cards."""

    table, key = "cards", "id"
    where = f"{OURS} AND erased_at IS NULL"
    also_written = ()  # statements that follow the cards' own in their transaction
    also_deleted = ()
    lists_by_index = False

    def __init__(self, db):
        self.db = db
        self.build = []
        self.tier_is_gold = f"{db.tier} = 'gold'"

    def points_from(self, least):
        return self.where, f"{self.db.points} >= {least}"

    def birthday_soon(self):
        return self.where, f"{self.db.month_day} BETWEEN '{WEEK[0]}' AND '{WEEK[1]}'"

    def indexed(self, question):
        """The table, on SQLite with the index that a question needs: without statistics it would take another one."""
        return self.table

    def count(self, question):
        where, condition = question
        return f"SELECT count(*) FROM {self.indexed(question)} WHERE {where} AND {condition}"

    def count_active(self, question):
        return self.count(question) + " AND state = 'active'"

    def count_both(self):
        where, condition = self.points_from(UNSELECTIVE)
        return self.count((where, f"{self.tier_is_gold} AND {condition}"))


class ExpressionIndexes(NoIndex):
    """B: an index for each attribute of a tenant's template. Its name and the tenant's are written in its DDL."""

    lists_by_index = True

    def indexed(self, question):
        if self.db.name != "SQLite":
            return self.table
        value = question[1]
        name = "tier" if self.db.tier in value else "points" if self.db.points in value else "birthday"
        return f"cards INDEXED BY our_{name}"

    def __init__(self, db, others=0):
        super().__init__(db)
        values = {"points": db.points, "tier": db.tier, "name": db.name_, "birthday": db.month_day, "balance": db.balance}
        self.build = [f"CREATE INDEX our_{name} ON cards (({value}), id) WHERE {OURS}" for name, value in values.items()]
        for n in range(others):
            theirs = f"workspace_id = 'ws_other_{n:03}' AND template_id = '{TEMPLATE}'"
            self.build += [f"CREATE INDEX other_{n}_{name} ON cards (({value}), id) WHERE {theirs}"
                           for name, value in values.items()]


class Gin(NoIndex):
    """D: one index for all attributes of all tenants; it answers equality only."""

    def __init__(self, db):
        super().__init__(db)
        self.build = ["CREATE INDEX cards_gin ON cards USING gin ((CAST(attributes AS jsonb)) jsonb_path_ops)"]
        self.tier_is_gold = "CAST(attributes AS jsonb) @> '{\"tier\": \"gold\"}'"


class SideTable:
    """C: a row for each value. A row is in one of the partial indexes, a date in two."""

    table, key = "card_attributes", "card_id"
    lists_by_index = True
    numbered = False

    def __init__(self, db):
        self.db = db
        if self.numbered:
            declared, inserted, row_key = "attribute BIGINT NOT NULL", "attribute", "workspace_id, card_id, attribute"
            prefix = "attribute"
            number = "CASE name " + " ".join(f"WHEN '{name}' THEN {n}" for n, name in enumerate(NAMES)) + " END"
            stored, given = f"workspace_id, {number}", f"'{WORKSPACE}', attribute"
        else:
            declared, inserted = "template_id TEXT NOT NULL, name TEXT NOT NULL", "template_id, name"
            row_key, prefix = "workspace_id, card_id, name", "workspace_id, template_id, name"
            stored, given = "workspace_id, template_id, name", f"'{WORKSPACE}', '{TEMPLATE}', name"
        columns = f"workspace_id, {inserted}, card_id, text_value, number_value, time_value, month_day"
        self.build = [
            f"""CREATE TABLE card_attributes (workspace_id TEXT NOT NULL, {declared}, card_id TEXT NOT NULL,
                text_value TEXT, number_value {db.double}, time_value BIGINT, month_day BIGINT, PRIMARY KEY ({row_key}),
                FOREIGN KEY (workspace_id, card_id) REFERENCES cards (workspace_id, id)) {db.side_table_options}""",
            f"""INSERT INTO card_attributes ({columns}) SELECT {stored}, card, text, number, time, month_day
                FROM {db.stored_values} s ORDER BY card, name""",
        ] + [
            f"""CREATE INDEX card_attributes_by_{value} ON card_attributes ({prefix}, {value}, card_id)
                WHERE {value} IS NOT NULL"""
            for value in ("text_value", "number_value", "time_value", "month_day")
        ]
        self.also_written = (
            f"""INSERT INTO card_attributes ({columns}) SELECT {given}, card, text, number, time, month_day
                FROM {db.batch_values} b WHERE TRUE ON CONFLICT ({row_key}) DO UPDATE SET {inserted.split(", ")[0]} =
                excluded.{inserted.split(", ")[0]}, text_value = excluded.text_value, number_value = excluded.number_value,
                time_value = excluded.time_value, month_day = excluded.month_day""",
        )
        self.also_deleted = (f"DELETE FROM card_attributes WHERE workspace_id = '{WORKSPACE}' AND card_id >= 'member-9'",)

    def of(self, name):
        if self.numbered:
            return f"workspace_id = '{WORKSPACE}' AND attribute = {NAMES.index(name)}"
        return f"{OURS} AND name = '{name}'"

    def points_from(self, least):
        return self.of("points"), f"number_value >= {least}"

    def birthday_soon(self):
        first, last = (int(day.replace("-", "")) for day in WEEK)
        return self.of("birthday"), f"month_day BETWEEN {first} AND {last}"

    def indexed(self, question):
        return self.table

    def count(self, question):
        where, condition = question
        return f"SELECT count(*) FROM card_attributes WHERE {where} AND {condition}"

    def count_active(self, question):
        where, condition = question
        return f"""SELECT count(*) FROM (SELECT card_id FROM card_attributes WHERE {where} AND {condition}) a
            {self.join("cards c")} ON c.workspace_id = '{WORKSPACE}' AND c.id = a.card_id WHERE c.state = 'active'"""

    def count_both(self):
        where, condition = self.points_from(UNSELECTIVE)
        shield = "+" if self.db.name == "SQLite" else ""
        gold = f"{self.of('tier')} AND text_value = 'gold'"
        return f"""SELECT count(*) FROM (SELECT card_id FROM card_attributes WHERE {gold}) a
            {self.join("card_attributes p")} ON p.workspace_id = '{WORKSPACE}' AND p.card_id = a.card_id
            WHERE {self.qualified(where)} AND {shield}p.{condition}"""

    def join(self, table):
        """SQLite never reorders a CROSS JOIN; PostgreSQL chooses by its statistics."""
        return f"CROSS JOIN {table}" if self.db.name == "SQLite" else f"JOIN {table}"

    @staticmethod
    def qualified(where):
        return re.sub(r"\b(workspace_id|template_id|name|attribute) =", r"p.\1 =", where)


class NumberedSideTable(SideTable):
    """Cn: each attribute of a template has a number, which another table would assign."""

    numbered = True


# ---------------------------------------------------------------------------------------------------------- measurements

MEASURED = {
    "build, ms": "build", "size, MB": "size", "count 1 %": "count_1", "count birthdays 1.9 %": "count_week",
    "count 30 %": "count_30", "count 30 %, active": "count_active", "count 30 % and gold": "count_both",
    "list 1 % by index": "list_1_index", "list 1 % by walk": "list_1_walk", "list 30 % by index": "list_30_index",
    "list 30 % by walk": "list_30_walk", "first page of 30 % by walk": "page_30_walk", "update 1 card": "update_1",
    "update 500 cards": "update_500", "insert 500 cards": "insert_500",
}


def fill(db, cards):
    """Makes the tables and the cards."""
    folder = "sqlite" if db.name == "SQLite" else "postgres"
    with open(os.path.join(ROOT, "migrations", folder, "0001_schema.sql"), encoding="utf-8") as file:
        db.make(file.read())
    secret = "X'00'" if db.name == "SQLite" else "'\\x00'"
    db.run(f"""INSERT INTO workspaces (id, name, position, changed_at, secret, created_at)
        VALUES ('{WORKSPACE}', 'W', 1, 1, {secret}, 1)""")
    db.run(f"""INSERT INTO templates (workspace_id, id, draft, position, modified, created_at, updated_at)
        VALUES ('{WORKSPACE}', '{TEMPLATE}', '{{}}', 1, 1, 1, 1)""")
    rng = random.Random(44)
    known = [some_attributes(rng) for _ in range(cards)]
    for start in range(0, cards, 5000):
        batch = [entry(n, known[n], [], 0) for n in range(start, min(start + 5000, cards))]
        db.run(db.insert, batch=json.dumps(batch, ensure_ascii=False))
    db.settle()
    return known


def list_all(db, candidate, question, statement, pages=None):
    """Reads the keys of all cards in pages; the milliseconds and the number of cards."""
    after, found, spent = "", 0, 0.0
    while pages is None or pages > 0:
        table = candidate.indexed(question) if statement == db.by_index else candidate.table
        rows, milliseconds = db.run(statement(candidate.key, table, *question, after))
        spent, found = spent + milliseconds, found + len(rows)
        if len(rows) < PAGE:
            break
        after, pages = rows[-1][0], pages and pages - 1
    return spent, found


def measure(db, candidate, known, repeats, only=None):
    """Returns the medians for a candidate on the opened copy."""
    before, rng, now = db.size(), random.Random(45), 0
    # One statement after another, as DDL at run time would be; not in one transaction.
    results = {"build": sum(db.run(sql)[1] for sql in candidate.build)}
    db.settle()
    results["size"] = (db.size() - before) / 1e6

    def median(what, times, once, answer=None):
        if only and what not in only:
            return
        taken = []
        for _ in range(times + 1):  # the first warms up
            milliseconds, found = once()
            taken.append(milliseconds)
            assert answer is None or found == answer, f"{what} found {found} instead of {answer}"
        results[what] = statistics.median(taken[1:])

    def counting(sql):
        def once():
            rows, milliseconds = db.run(sql)
            return milliseconds, int(rows[0][0])
        return once

    one, third, week = candidate.points_from(SELECTIVE), candidate.points_from(UNSELECTIVE), candidate.birthday_soon()
    ones, thirds = (sum(card["points"] >= least for card in known) for least in (SELECTIVE, UNSELECTIVE))
    weeks = sum(WEEK[0] <= card["birthday"][5:] <= WEEK[1] for card in known)
    both = sum(card["points"] >= UNSELECTIVE and card["tier"] == "gold" for card in known)
    median("count_1", repeats, counting(candidate.count(one)), ones)
    median("count_week", repeats, counting(candidate.count(week)), weeks)
    median("count_30", repeats, counting(candidate.count(third)), thirds)
    median("count_active", repeats, counting(candidate.count_active(third)), thirds)
    median("count_both", repeats, counting(candidate.count_both()), both)
    if candidate.lists_by_index:
        median("list_1_index", repeats, lambda: list_all(db, candidate, one, db.by_index), ones)
        median("list_30_index", repeats, lambda: list_all(db, candidate, third, db.by_index), thirds)
    median("list_1_walk", repeats, lambda: list_all(db, candidate, one, db.by_walk), ones)
    median("list_30_walk", repeats, lambda: list_all(db, candidate, third, db.by_walk), thirds)
    median("page_30_walk", repeats, lambda: list_all(db, candidate, third, db.by_walk, pages=1), PAGE)

    def updating(number):
        def once():
            nonlocal now
            now += 1
            chosen = rng.sample(range(len(known)), number)
            changed = [(n, {**known[n], "points": rng.randrange(10_000)}) for n in chosen]
            batch = json.dumps([entry(n, card, ["points"], now) for n, card in changed], ensure_ascii=False)
            return db.run("SELECT 1", db.update, *candidate.also_written, batch=batch)[1], None
        return once

    def inserting():
        first = 90_000_000
        entries = [entry(first + n, some_attributes(rng), NAMES, 1) for n in range(BATCH)]
        batch = json.dumps(entries, ensure_ascii=False)
        milliseconds = db.run("SELECT 1", db.insert, *candidate.also_written, batch=batch)[1]
        delete = f"DELETE FROM cards WHERE workspace_id = '{WORKSPACE}' AND id >= 'member-9'"
        db.run("SELECT 1", *candidate.also_deleted, delete)
        return milliseconds, None

    median("update_1", SINGLE_UPDATES, updating(1))
    median("update_500", repeats * 2, updating(BATCH))
    median("insert_500", repeats * 2, inserting)
    return results


def refusals(db):
    """What PostgreSQL refuses of expression indexes."""
    date = "CREATE INDEX x ON cards ((CAST(CAST(attributes AS jsonb) ->> 'birthday' AS date)))"
    print(f"\n{date}\n  {db.once(date)[1].strip()}")
    bad = f"""BEGIN; CREATE INDEX x ON cards (({db.points}));
        UPDATE cards SET attributes = '{{"points": "many"}}' WHERE id = 'member-00000000'; ROLLBACK"""
    print(f"An update to {{\"points\": \"many\"}} under an index on {db.points}\n  {db.once(bad)[1].strip()}")


def show(name, results):
    """Prints a table with a column for each candidate."""
    print(f"\n{name}\n| ms, median | {' | '.join(results)} |\n| --- |{' ---: |' * len(results)}")
    for title, what in MEASURED.items():
        cells = (r.get(what) for r in results.values())
        print(f"| {title} | {' | '.join('' if c is None else f'{c:.2f}' if c < 10 else f'{c:,.0f}' for c in cells)} |")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cards", type=int, default=100_000)
    arguments.add_argument("--repeats", type=int, default=7)
    chosen = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: exit(1))  # so that the server ends and the directory goes
    directory = tempfile.mkdtemp(prefix="passloom-attributes-")
    try:
        for kind in (Sqlite, Postgres):
            db = kind(directory)
            try:
                known = fill(db, chosen.cards)
                print(f"\n{db.name}: {len(known):,} cards, {db.size() / 1e6:.0f} MB without candidates", flush=True)
                candidates = {"A": NoIndex(db), "B": ExpressionIndexes(db), "B500": ExpressionIndexes(db, OTHER_TENANTS),
                              "C": SideTable(db), "Cn": NumberedSideTable(db)}
                if kind is Postgres:
                    candidates["D"] = Gin(db)
                results = {}
                for name, candidate in candidates.items():
                    db.copy(name)
                    few = {"count_1", "update_1", "update_500", "insert_500"} if name == "B500" else None
                    results[name] = measure(db, candidate, known, chosen.repeats, few)
                show(db.name, results)
                if kind is Postgres:
                    db.copy("refusals")
                    refusals(db)
            finally:
                db.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
