from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, cast

import pytest
from pydantic import ValidationError

from tests.workers.connectors.easyflor.conftest import options
from workers import configuration
from workers.connectors.easyflor import resources, table

if TYPE_CHECKING:
    from pathlib import Path

    from workers.connectors.easyflor.options import Options

ALWAYS: list[str] = []
NIGHT = ["18:00-05:00"]
TWO = ["05:30-07:00", "20:00-22:15"]
END = ["20:00-24:00"]
ROUND = ["00:00-24:00"]

# (opening hours, now, closed until), in UTC; "" while open, "+" for the next day.
HOURS = [
    (NIGHT, "17:59:59", "18:00"),
    (NIGHT, "18:00:00", ""),
    (NIGHT, "23:59:59", ""),
    (NIGHT, "00:00:00", ""),
    (NIGHT, "04:59:59", ""),
    (NIGHT, "05:00:00", "18:00"),
    (NIGHT, "12:00:00", "18:00"),
    (TWO, "05:29:59", "05:30"),
    (TWO, "05:30:00", ""),
    (TWO, "07:00:00", "20:00"),
    (TWO, "22:14:59", ""),
    (TWO, "22:15:00", "05:30+"),
    (END, "19:59:59", "20:00"),
    (END, "23:59:59", ""),
    (END, "00:00:00", "20:00"),
    (ROUND, "00:00:00", ""),
    (ROUND, "12:00:00", ""),
    (ALWAYS, "12:00:00", ""),
]


def moment(text: str) -> datetime | None:
    if not text:
        return None
    day = "2026-06-02" if text.endswith("+") else "2026-06-01"
    return datetime.fromisoformat(f"{day}T{text.rstrip('+')}").replace(tzinfo=UTC)


@pytest.mark.parametrize(("hours", "now", "until"), HOURS)
def test_closed_until_follows_the_opening_hours(hours: list[str], now: str, until: str) -> None:
    asked = moment(now)
    assert asked is not None
    assert moment(until) == options(opening_hours=hours).closed_until(asked)


def test_opening_hours_are_utc_in_any_zone() -> None:
    made = options(timezone="Europe/Amsterdam")
    summer = timezone(timedelta(hours=2))
    assert made.closed_until(datetime(2026, 6, 1, 19, 59, tzinfo=summer)) == datetime(2026, 6, 1, 18, tzinfo=UTC)
    assert made.closed_until(datetime(2026, 6, 1, 20, 0, tzinfo=summer)) is None


@pytest.mark.parametrize(
    "hours", ["18:00", "18-5", "18:00-5:00", "24:30-05:00", "18:60-05:00", "25:00-05:00", "24:00-05:00", "", "night"]
)
def test_malformed_opening_hours_are_refused_with_an_example(hours: str) -> None:
    with pytest.raises(ValidationError, match=r'as in "18:00-05:00"'):
        options(opening_hours=[hours])


@pytest.mark.parametrize("hours", ["18:00-18:00", "00:00-00:00"])
def test_opening_hours_that_end_when_they_begin_are_refused(hours: str) -> None:
    with pytest.raises(ValidationError, match="empty if EasyFlor never closes"):
        options(opening_hours=[hours])


@pytest.mark.parametrize(
    ("hours", "longest"),
    [(ALWAYS, 0), (ROUND, 0), (NIGHT, 13), (["18:00-05:00", "05:00-06:00"], 12), (["00:00-01:00", "02:00-03:00"], 21)],
)
def test_the_bound_includes_the_longest_closed_time(hours: list[str], longest: int) -> None:
    made = options(opening_hours=hours)
    assert timedelta(hours=longest) == made.longest_closed
    (debtor,) = resources.resources(made)
    assert debtor.bound == timedelta(hours=24 + longest)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.easyflor.eu",
        "https://api.easyflor.eu/",
        "https://api.easyflor.eu/api",
        "https://api.easyflor.eu/api/",
    ],
)
def test_the_address_is_the_same_with_and_without_api(url: str) -> None:
    assert options(url).url == "https://api.easyflor.eu/api"


def test_omitted_settings_have_the_documented_defaults() -> None:
    made = options()
    assert made.auth == "token"
    assert made.resources == ("debtor",)
    assert (made.every, made.full_every) == (timedelta(hours=1), timedelta(hours=24))
    assert made.opening_hours == ("18:00-05:00",)
    assert (made.since_format, made.overlap_days, made.concurrency) == ("yyyyMMdd", 2, 2)
    assert not made.keep_personal
    assert made.login() == ("EasyFlor-Demo", "api", "wouldntyouliketoknow")


def test_an_unknown_resource_is_refused_with_the_known_ones_and_how_to_add_it() -> None:
    with pytest.raises(
        ValidationError, match=r'no known resource "shops".*articlegroup.*\[connections\.flora\.own\.shops\]'
    ):
        options(resources=["debtor", "shops"])


@pytest.mark.parametrize(
    ("own", "text"),
    [
        ({}, "it has no address; add path"),
        ({"path": "https://elsewhere.example/x"}, "below /api/"),
        ({"path": "/PriceList"}, "below /api/"),
        ({"path": "../PriceList"}, "below /api/"),
        ({"path": "PriceList?x=1"}, "below /api/"),
        ({"path": "PriceListSinceDate/{date}"}, "move {date} into since"),
        ({"since": "PriceListSinceDate/"}, "needs {date} once"),
        ({"since": "PriceListSinceDate/{day}"}, "needs {date} once"),
        ({"since": "P/{date}/{date}"}, "needs {date} once"),
    ],
)
def test_an_own_resource_without_a_valid_address_is_refused(own: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        options(own={"pricelist": own})


def test_the_address_of_debtors_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match=r'own\.debtor.* write path = "debtor" and key'):
        options(own={"debtor": {"path": "Debtors/"}})


@pytest.mark.parametrize(
    ("fetchable", "own"),
    [
        (True, {"path": "debtor", "key": "id"}),
        (True, {"path": "Debtor/", "since": "DebtorSinceDate/{date}", "key": "Id"}),
        (False, {"path": "debtor", "key": "Code"}),  # the address of one debtor takes its Id
    ],
)
def test_the_key_of_debtors_can_be_set(fetchable: bool, own: dict[str, Any]) -> None:  # noqa: FBT001
    made = options(own={"debtor": own})
    (debtor,) = resources.resources(made)
    assert ((own["key"],), fetchable, not fetchable) == (debtor.key, debtor.fetchable, debtor.unpaged)
    assert "debtorsincedate/{date}" == resources.catalogue(made)["debtor"].since


def test_an_own_resource_is_mirrored_without_being_listed_in_resources() -> None:
    made = options(own={"pricelist": {"path": "PriceList/", "since": "PriceListSinceDate/{date}", "key": "Shop:Id"}})
    debtor, pricelist = resources.resources(made)
    assert ("debtor", "pricelist") == (debtor.name, pricelist.name)
    assert (pricelist.key, pricelist.fetchable, pricelist.unpaged) == (("Shop", "Id"), False, True)
    assert not resources.catalogue(made)["pricelist"].confirmed


def test_an_own_resource_is_read_from_the_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "erpmirror.toml"
    file.write_text(
        """
        [connections.flora]
        system = "easyflor"
        username = "api"
        password = "secret"
        database = "EasyFlor-Demo"
        [connections.flora.own.pricelist]
        path = "PriceList/"
        """,
        encoding="utf-8",
    )
    made = configuration.load(file).connections["flora"]
    assert ["debtor", "pricelist"] == [each.name for each in resources.resources(cast("Options", made))]


def test_an_unconfirmed_address_can_be_corrected() -> None:
    made = options(resources=["article"], own={"article": {"path": "Articles/"}})
    assert ["article"] == [each.name for each in resources.resources(made)]
    assert resources.catalogue(made)["article"].path == "Articles/"


@pytest.mark.parametrize("row", table.TABLE, ids=lambda row: row.name)
def test_every_known_resource_can_be_mirrored(row: table.Row) -> None:
    (made,) = resources.resources(options(resources=[row.name]))
    assert row.name == made.name
    assert (row.since is not None) == (made.every is not None)
    assert (row.point is not None) == made.fetchable
    assert made.unpaged == (row.path is not None and row.point is None)


def test_the_selection_changes_with_the_settings_that_affect_it() -> None:
    def selection(**settings: Any) -> list[str]:
        return [each.selection for each in resources.resources(options(resources=["debtor", "invoice"], **settings))]

    assert ["", "since=2000-01-01"] == selection()
    assert ["keep_personal", "keep_personal since=2025-01-01"] == selection(keep_personal=True, since="2025-01-01")
