"""What the database's owner puts in the way costs the rows that it refuses, or one table; never a neighbour."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models import status
from models.db import faults
from tests import services
from tests.models.mirror.test_own_objects import execute

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.db.database import Database
    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Harness

KINDS = {"goods": {"every": 60, "full_every": 3600}, "orders": {"every": 60, "full_every": 3600}}
SECRET = "4711"


def guard(
    database: Database, condition: str, message: str = "no such price here", *, table: str = "sixth_goods"
) -> None:
    """A trigger of the owner's that refuses rows."""
    if database.is_sqlite:
        for event in ("INSERT", "UPDATE"):
            execute(
                database,
                f"CREATE TRIGGER guard_{event} BEFORE {event} ON {table} WHEN {condition} "
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END",
            )
        return
    execute(
        database,
        f"CREATE FUNCTION guarding() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF {condition} THEN RAISE EXCEPTION '{message}'; END IF; RETURN NEW; END $$",
        f"CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION guarding()",
    )


def unguard(database: Database) -> None:
    names = ("guard_INSERT", "guard_UPDATE") if database.is_sqlite else ("guard ON sixth_goods",)
    execute(database, *(f"DROP TRIGGER {name}" for name in names))


@contextmanager
def as_guest(database: Database, *statements: str) -> Iterator[None]:
    """Work under a login that owns nothing here and has all rights on the tables, less what these statements take."""
    with database.read() as tx:
        schema = tx.execute(sa.text("SELECT current_schema()")).scalar_one()
    role = f"schema_{schema}"
    execute(
        database,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        *(statement.format(role=role) for statement in statements),
    )
    try:
        database.close()
        database.url = database.url.set(username=role)
        del database.engine
        yield
    finally:
        database.close()
        database.url = database.url.set(username="postgres")
        del database.engine
        execute(database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def reasons(six: Harness, resource: str = "goods") -> list[str]:
    return [row.reason for row in six.inbox(resource).values()]


def shown(six: Harness) -> dict[str, status.ResourceStatus]:
    return {row.resource: row for row in status.resources(six.database)}


def test_rows_that_a_trigger_refuses_are_parked_in_its_words_and_the_others_go_on(anywhere: Connect) -> None:
    with anywhere(kinds=KINDS) as six:
        six.vendor.objects["goods"] = {str(n): {"v": n} for n in range(30)}
        six.work()
        guard(six.database, "NEW.v IN (104, 107)")
        six.vendor.objects["goods"] = {str(n): {"v": 100 + n} for n in range(30)}
        six.full_sync_again()
        assert {"4": "parked", "7": "parked"} == six.states()
        assert [100 + n for n in range(30) if n not in (4, 7)] == sorted(
            raw["v"] for raw in six.live().values() if raw["v"] >= 100
        )
        for reason in reasons(six):
            assert "guard" in reason
            assert "sixth_goods refuses it: no such price here" in reason
        unguard(six.database)
        six.full_sync_again()
        six.work()
        assert (six.vendor.objects["goods"], {}) == (six.live(), six.states())


def test_likewise_one_that_is_fetched(anywhere: Connect) -> None:
    with anywhere(kinds=KINDS) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        six.work()
        guard(six.database, "NEW.v = 13")
        six.vendor.objects["goods"] = {"1": {"v": 13}, "2": {"v": 2}}
        six.webhook("1", "2")
        six.sync()
        assert ({"1": "parked"}, 2) == (six.states(), six.live()["2"]["v"])
        assert "no such price here" in reasons(six)[0]
        unguard(six.database)
        six.vendor.listing["goods"] = lambda _: [{"lines": [["1", "13"], ["2", "2"]], "end": {"cursor": "d"}}]
        six.full_sync_again()
        six.work()
        assert (13, {}) == (six.live()["1"]["v"], six.states())


def test_what_refuses_all_rows_is_named_and_nothing_is_parked(anywhere: Connect) -> None:
    with anywhere(kinds=KINDS) as six:
        six.vendor.objects["goods"] = {str(n): {"v": n} for n in range(25)}
        six.work()
        guard(six.database, "1 = 1", "closed for stocktaking")
        six.vendor.objects["goods"] = {str(n): {"v": 100 + n} for n in range(25)}
        six.vendor.objects["orders"] = {"7": {"v": 7}}
        six.full_sync_again()
        six.full_sync_again("orders")
        assert ({}, {"7": {"v": 7}}) == (six.states(), six.live("orders"))
        error = shown(six)["goods"].last_error or ""
        assert "on sixth_goods refuses it: closed for stocktaking; change or remove that rule" in error
        unguard(six.database)
        six.run_until(lambda: six.live() == six.vendor.objects["goods"])
        assert (None, {}) == (shown(six)["goods"].last_error, six.states())


def test_a_message_that_holds_a_value_is_not_repeated(anywhere: Connect) -> None:
    """SQLite's RAISE takes only a constant here, so there the same trigger fails by a constraint of its own."""
    with anywhere(kinds=KINDS) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.work()
        if six.database.is_sqlite:
            execute(
                six.database,
                "CREATE TABLE own (v CHECK (v < 100))",
                "CREATE TRIGGER guard AFTER UPDATE ON sixth_goods BEGIN INSERT INTO own VALUES (NEW.v); END",
            )
        else:
            execute(
                six.database,
                "CREATE FUNCTION guarding() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'not %', NEW.v USING DETAIL = NEW.v, ERRCODE = 'check_violation'; END $$",
                "CREATE TRIGGER guard BEFORE UPDATE ON sixth_goods FOR EACH ROW EXECUTE FUNCTION guarding()",
            )
        six.vendor.objects["goods"] = {"1": {"v": int(SECRET)}}
        six.webhook("1")
        six.sync()
        (reason,) = reasons(six)
        assert (True, False) == ("sixth_goods" in reason or "CHECK" in reason, SECRET in reason), reason


def test_a_trigger_that_drops_rows_in_silence_is_named(anywhere: Connect) -> None:
    with anywhere(kinds=KINDS) as six:
        six.work()
        six.vendor.objects["goods"] = {"0": {"v": 0}}
        six.full_sync_again()
        if six.database.is_sqlite:
            execute(
                six.database,
                "CREATE TRIGGER own BEFORE INSERT ON sixth_goods WHEN NEW.v = 13 BEGIN SELECT RAISE(IGNORE); END",
            )
        else:
            execute(
                six.database,
                "CREATE FUNCTION dropping() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN IF NEW.v = 13 THEN RETURN NULL; END IF; RETURN NEW; END $$",
                "CREATE TRIGGER own BEFORE INSERT ON sixth_goods FOR EACH ROW EXECUTE FUNCTION dropping()",
            )
        six.vendor.objects["goods"] = {"0": {"v": 0}, "1": {"v": 13}, "2": {"v": 2}}
        six.full_sync_again()
        assert ({"0", "2"}, {"1": "parked"}) == (set(six.live()), six.states())
        assert "a trigger or rule drops rows of sixth_goods in silence" in reasons(six)[0]
        assert [] == [key for key, _, _ in six.journal() if key == "1"]


def test_a_trigger_whose_own_table_is_gone_is_not_taken_for_ours(connect: Connect) -> None:
    with connect(kinds=KINDS) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.work()
        execute(
            six.database,
            "CREATE TRIGGER own AFTER UPDATE ON sixth_goods BEGIN INSERT INTO gone VALUES (1); END",
        )
        six.vendor.objects["goods"] = {"1": {"v": 2}}
        six.webhook("1")
        six.sync()
        assert ("parked", True) == (six.states()["1"], "no such table: main.gone" in reasons(six)[0])


RULES = {
    "a unique index": (
        "CREATE UNIQUE INDEX own ON sixth_goods (v)",
        "own|sixth_goods.v",
        {"1": {"v": 5}, "2": {"v": 5}},
    ),
    "a check": (
        "ALTER TABLE sixth_goods ADD CONSTRAINT own CHECK (v < 100)",
        '"own"',
        {"1": {"v": 4711}, "2": {"v": 2}},
    ),
    "a column": ("ALTER TABLE sixth_goods ADD COLUMN own text NOT NULL", '"own"', {"1": {"v": 3}, "2": {"v": 4}}),
    "a foreign key": (
        "CREATE TABLE k (k text UNIQUE); ALTER TABLE sixth_goods ADD CONSTRAINT own FOREIGN KEY(_key) REFERENCES k(k)",
        '"own"',
        {"1": {"v": 3}, "2": {"v": 4}},
    ),
    "a rule": ("CREATE RULE own AS ON UPDATE TO sixth_goods DO INSTEAD NOTHING", "rules", {"9": {"v": 3}}),
}
ON_SQLITE = {"a unique index"}


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_is_named_without_a_value(anywhere: Connect, database: Database, rule: str) -> None:
    statements, name, objects = RULES[rule]
    if database.is_sqlite and rule not in ON_SQLITE:
        pytest.skip("SQLite cannot add it to a table that exists")
    with anywhere(kinds=KINDS) as six:
        six.vendor.objects["goods"] = {"9": {"v": 9}}
        six.work()
        if rule != "a rule":
            execute(database, "DELETE FROM sixth_goods")
        execute(database, *statements.split("; "))
        six.vendor.objects["goods"] = objects
        six.vendor.objects["orders"] = {"7": {"v": 7}}
        six.webhook(*objects)
        six.webhook("7", resource="orders")
        six.sync()
        assert {"7": {"v": 7}} == six.live("orders")
        assert reasons(six)
        for reason in reasons(six):
            assert any(each in reason for each in name.split("|")), reason
            assert "4711" not in reason


@services.ON_POSTGRESQL
def test_a_policy_and_a_missing_right_are_named(anywhere: Connect, database: Database) -> None:
    """The login of the workers owns nothing here, as where an administrator made the tables."""
    with anywhere(kinds=KINDS) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.vendor.objects["orders"] = {"7": {"v": 7}}
        six.work()
        with as_guest(
            database,
            "REVOKE UPDATE ON sixth_orders FROM {role}",
            "ALTER TABLE sixth_goods ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON sixth_goods USING (true) WITH CHECK (v < 100)",
        ):
            six.vendor.objects["goods"] = {"1": {"v": 4711}}
            six.vendor.objects["orders"] = {"7": {"v": 8}}
            six.webhook("1")
            six.webhook("7", resource="orders")
            six.sync()
            assert {"1": "parked"} == six.states()
            assert 'row-level security policy for table "sixth_goods"' in reasons(six)[0]
            assert {"7": "due"} == six.states("orders")
            assert "GRANT SELECT, INSERT, UPDATE, DELETE ON sixth_orders" in reasons(six, "orders")[0]


@services.ON_POSTGRESQL
def test_each_missing_right_is_named_with_what_gives_it(anywhere: Connect, database: Database) -> None:
    with anywhere(kinds=KINDS) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.vendor.objects["orders"] = {"7": {"v": 7}}
        six.work()
        with as_guest(database, "REVOKE ALL ON SEQUENCE erpmirror_revisions FROM {role}"):
            with pytest.raises(sa.exc.ProgrammingError) as raised, database.begin() as tx:
                tx.draw()
            assert "GRANT USAGE, SELECT ON SEQUENCE erpmirror_revisions to" in faults.remedy(raised.value)
        with as_guest(database):
            six.vendor.objects["goods"] = {"1": {"v": 1, "new": 2}}
            six.webhook("1")
            six.sync()
            assert "ALTER TABLE sixth_goods OWNER TO" in reasons(six)[0]
            six.vendor.objects["orders"] = {"7": {"v": 7, "rows": [{"x": 1}]}}
            six.webhook("7", resource="orders")
            six.sync()
            assert "GRANT USAGE, CREATE on the schema to" in reasons(six, "orders")[0]


def _dropped(six: Harness, damage: str, words: Sequence[str]) -> None:
    six.vendor.objects["goods"] = {"1": {"v": 1, "rows": [{"x": 1}]}}
    six.vendor.objects["orders"] = {"7": {"v": 7}}
    six.work()
    execute(six.database, damage)
    six.vendor.objects["goods"] = {"1": {"v": 2, "rows": [{"x": 2}]}}
    six.vendor.objects["orders"] = {"7": {"v": 8}}
    six.webhook("1")
    six.webhook("7", resource="orders")
    six.sync()
    assert {"7": {"v": 8}} == six.live("orders")
    for said in (reasons(six)[0], shown(six)["goods"].last_error or ""):
        assert all(word in said for word in (*words, "run `erpmirror migrate`")), said


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("DROP TABLE sixth_goods__rows", ["sixth_goods__rows"]),
        ("DROP TABLE sixth_goods", ["sixth_goods"]),
        ("ALTER TABLE sixth_goods DROP COLUMN v", ["sixth_goods", "v"]),
    ],
)
def test_a_dropped_table_or_column_is_named_with_its_remedy(
    anywhere: Connect, damage: str, words: Sequence[str]
) -> None:
    with anywhere(kinds=KINDS) as six:
        _dropped(six, damage, words)


@services.ON_POSTGRESQL
def test_a_locked_table_costs_its_resource_alone(anywhere: Connect, database: Database) -> None:
    """Not its connection's other resources, nor another connection with the same tables."""
    with anywhere(kinds=KINDS, also={"other": {"api_key": "another"}}) as six:
        other = replace(six, name="other")
        six.vendor.objects["goods"] = {str(n): {"v": 1} for n in range(9)}
        six.vendor.objects["orders"] = {"7": {"v": 1}}
        six.work()
        other.work()
        with database.engine.connect() as person:
            person.execute(sa.text("LOCK TABLE sixth_goods IN ACCESS EXCLUSIVE MODE"))
            six.vendor.objects["goods"] = {str(n): {"v": 2} for n in range(9)}
            six.vendor.objects["orders"] = {"7": {"v": 2}}
            asked = len(six.vendor.asked)
            six.webhook(*(str(n) for n in range(9)))
            six.webhook("7", resource="orders")
            other.webhook("7", resource="orders")
            six.sync()
            other.sync()
            assert [{"7": {"v": 2}}] * 2 == [six.live("orders"), other.live("orders")]
            assert 3 >= len(six.vendor.asked) - asked, "the first key that finds the table locked speaks for the others"
            rows = shown(six)
            for said in (*reasons(six), rows["goods"].last_error):
                assert "another program's transaction locks the table sixth_goods: end it there" in (said or "")
            assert (None, 1, None) == (rows["goods"].rows, rows["orders"].rows, rows["orders"].last_error)
        six.run_until(lambda: six.live() == six.vendor.objects["goods"])
        assert ({}, 9) == (six.states(), shown(six)["goods"].rows)
