"""The sandbox follows the vendor's rules and formats, including the inconvenient ones."""

from __future__ import annotations

import base64
import hashlib
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1

from models import exact
from tests.serving import served
from workers.connectors.wisedat import sandbox as sandbox_module
from workers.connectors.wisedat import sandbox_day, sandbox_server, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.connectors.wisedat.sandbox import Sandbox
    from workers.connectors.wisedat.sandbox_books import Thing

PAGED = [row for row in table.TABLE if row.paged]
BARE = [row for row in table.TABLE if not row.paged and not row.single]
LOGIN = "sandbox-key;espelho;sandbox-password"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class Caller:
    """A plain HTTP client of the sandbox, written after the vendor's document, with a clock that tests set."""

    sandbox: Sandbox
    http: httpx.Client
    clock: list[datetime]
    token: str = ""

    def advance(self, **duration: float) -> None:
        self.clock[0] += timedelta(**duration)

    def status(self, key: str = "sandbox-key") -> Any:
        answer = self.http.get("/status", headers={"Authorization": f"WDAPI {key}"})
        assert 200 == answer.status_code
        return answer.json()

    def encrypted_login(self, login: str = LOGIN, scheme: Any = None) -> str:
        """The login, encrypted with the key of `/status`."""
        key = self.status()["PublicKey"]
        modulus, exponent = (int.from_bytes(base64.b64decode(key[name]), "big") for name in ("Modulus", "Exponent"))
        encrypted = (
            rsa.RSAPublicNumbers(exponent, modulus).public_key().encrypt(login.encode(), scheme or padding.PKCS1v15())
        )
        return base64.b64encode(encrypted).decode()

    def log_in(self, encrypted_login: str | None = None) -> httpx.Response:
        header = {"Authorization": f"WDAPI {self.encrypted_login() if encrypted_login is None else encrypted_login}"}
        answer = self.http.post("/authentication/login", headers=header)
        if answer.status_code == 200:
            self.token = answer.json()["auth_token"]
        return answer

    def get(self, path: str, /, **params: Any) -> httpx.Response:
        return self.http.get(f"/{path}", params=params, headers={"Authorization": f"Bearer {self.token}"})

    def read(self, path: str, /, **params: Any) -> Any:
        """The decoded answer to a request that must succeed."""
        answer = self.get(path, **params)
        assert 200 == answer.status_code, answer.text
        return exact.loads(answer.content)

    def listed(self, name: str, /, **params: Any) -> list[Any]:
        """The rows of all pages."""
        rows, page, pages = [], 1, 1
        while page <= pages:
            answer = self.read(name, page=page, **params)
            pages = answer["pagination"]["number_pages"]
            (wrapped,) = [value for key, value in answer.items() if key != "pagination"]
            rows += wrapped
            page += 1
        return rows

    def thing(self, name: str, place: int = 0) -> Thing:
        return self.sandbox.books.tables[name][place]


class AppSwitch:
    """One HTTP server for all tests; each test sets its own sandbox as `app`."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def app_switch() -> AppSwitch:
    return AppSwitch()


@pytest.fixture(scope="module")
def http(app_switch: AppSwitch) -> Iterator[httpx.Client]:
    with (
        served(app_switch, lifespan="off", date_header=False) as url,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        yield client


@pytest.fixture
def caller(app_switch: AppSwitch, http: httpx.Client, request: pytest.FixtureRequest) -> Caller:
    """A logged-in caller. A test's indirect parameter: options of `sandbox.create`."""
    clock = [NOON]
    knobs = {"key_bits": 1024, "now": lambda: clock[0]} | getattr(request, "param", {})
    app_switch.app = sandbox_module.create(**knobs)
    made = Caller(app_switch.app.state.sandbox, http, clock)
    if "padding" not in knobs:
        made.log_in()
    return made


# Login.


def test_the_status_is_200_even_for_an_unknown_key(caller: Caller) -> None:
    assert {"State": 2} == caller.status("other")


@pytest.mark.parametrize("state", [0, 2, 3, 4, 5, 6])
def test_only_an_online_server_sends_a_public_key(caller: Caller, state: int) -> None:
    caller.sandbox.state = state

    assert {"State": state} == caller.status()


def test_the_public_key_is_base64_and_big_endian(caller: Caller) -> None:
    shown = caller.status()

    assert 1 == shown["State"]
    assert {"Modulus", "Exponent"} == set(shown["PublicKey"])
    assert "AQAB" == shown["PublicKey"]["Exponent"]
    assert 1024 == int.from_bytes(base64.b64decode(shown["PublicKey"]["Modulus"]), "big").bit_length()


def test_the_public_key_may_be_a_list(caller: Caller) -> None:
    by_name = caller.status()["PublicKey"]
    caller.sandbox.key_as_list = True

    assert [by_name["Modulus"], by_name["Exponent"]] == caller.status()["PublicKey"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/status"), ("POST", "/authentication/login")])
def test_without_an_authorization_header_status_and_login_are_400(caller: Caller, method: str, path: str) -> None:
    assert 400 == caller.http.request(method, path).status_code


def test_a_login_returns_a_token_in_three_parts_that_is_accepted(caller: Caller) -> None:
    assert 3 == len(caller.token.split("."))
    assert 200 == caller.get("products").status_code
    assert (1, 0) == (caller.sandbox.logins, caller.sandbox.refused_logins)


@pytest.mark.parametrize("login", ["sandbox-key;espelho;wrong", f"{{{LOGIN}}}", ""])
def test_a_wrong_login_is_401(caller: Caller, login: str) -> None:
    assert 401 == caller.log_in(caller.encrypted_login(login)).status_code
    assert (1, 1) == (caller.sandbox.logins, caller.sandbox.refused_logins)


@pytest.mark.parametrize("encrypted_login", ["not base64!", base64.b64encode(b"short").decode()])
def test_a_login_that_is_not_encrypted_is_401(caller: Caller, encrypted_login: str) -> None:
    assert 401 == caller.log_in(encrypted_login).status_code


@pytest.mark.parametrize("caller", [{"padding": "oaep"}], indirect=True)
def test_a_server_with_oaep_refuses_the_other_padding(caller: Caller) -> None:
    oaep = padding.OAEP(padding.MGF1(SHA1()), SHA1(), None)  # noqa: S303

    assert 401 == caller.log_in().status_code
    assert 200 == caller.log_in(caller.encrypted_login(scheme=oaep)).status_code


def test_a_token_lasts_thirty_minutes(caller: Caller) -> None:
    caller.advance(minutes=29, seconds=59)
    assert 200 == caller.get("products").status_code
    caller.advance(seconds=1)
    assert 401 == caller.get("products").status_code


@pytest.mark.parametrize("path", ["company", "products", "taxes", "customeraddresses", "nothing"])
def test_reads_without_a_valid_token_are_401(caller: Caller, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "WDAPI sandbox-key"}):
        assert 401 == caller.http.get(f"/{path}", headers=headers).status_code


def test_a_new_key_invalidates_every_token(caller: Caller) -> None:
    before = caller.status()["PublicKey"]
    caller.sandbox.rotate()

    assert 401 == caller.get("products").status_code
    assert before != caller.status()["PublicKey"]
    assert 200 == caller.log_in().status_code
    assert 200 == caller.get("products").status_code


def test_a_login_encrypted_with_the_previous_key_fails(caller: Caller) -> None:
    encrypted_login = caller.encrypted_login()
    caller.sandbox.rotate()

    assert 401 == caller.log_in(encrypted_login).status_code


def test_the_key_changes_once_a_day(caller: Caller) -> None:
    before = caller.status()["PublicKey"]
    caller.advance(hours=23)
    assert before == caller.status()["PublicKey"]
    caller.advance(hours=1)
    assert before != caller.status()["PublicKey"]


def test_a_server_that_starts_reports_offline_first(caller: Caller) -> None:
    caller.sandbox.restart(starting=2)

    assert [0, 0, 1] == [caller.status()["State"] for _ in range(3)]


def test_tokens_can_expire_under_the_same_key(caller: Caller) -> None:
    before = caller.status()["PublicKey"]
    caller.sandbox.expire()

    assert 401 == caller.get("products").status_code
    assert before == caller.status()["PublicKey"]


# Lists.


@pytest.mark.parametrize("row", PAGED, ids=lambda row: row.name)
def test_a_paged_list_is_wrapped_and_counted(caller: Caller, row: table.Row) -> None:
    caller.sandbox.largest_page = None
    known = len(caller.listed(row.name, show_inactive="true"))

    answer = caller.read(row.name, limit=2, page=1, show_inactive="true")

    pages = -(-known // 2)
    assert {"limit": 2, "page": 1, "number_pages": pages, "number_items": known} == answer["pagination"]
    assert {"pagination", "salesmen" if row.name == "suppliers" else row.name} == set(answer)


def test_a_page_has_fifty_rows_by_default(caller: Caller) -> None:
    caller.sandbox.largest_page = None
    for number in range(60):
        caller.sandbox.books.new_product(100 + number)

    assert 50 == len(caller.read("products")["products"])


def test_a_limit_above_the_maximum_is_reduced(caller: Caller) -> None:
    answer = caller.read("orders", limit=200)

    assert (5, 5) == (answer["pagination"]["limit"], len(answer["orders"]))


def test_a_page_beyond_the_last_is_empty(caller: Caller) -> None:
    assert [] == caller.read("orders", page=99)["orders"]


@pytest.mark.parametrize("row", PAGED, ids=lambda row: row.name)
def test_the_pages_together_contain_every_object_once(caller: Caller, row: table.Row) -> None:
    keys = [str(line["id"]) for line in caller.listed(row.name, limit=2, show_inactive="true")]

    assert sorted(caller.sandbox.truth(row.name)) == sorted(keys)


@pytest.mark.parametrize("row", BARE, ids=lambda row: row.name)
def test_unpaged_lists_are_bare_arrays_of_whole_objects(caller: Caller, row: table.Row) -> None:
    rows = caller.read(row.name)

    assert isinstance(rows, list)
    (field_,) = row.key
    assert sorted(caller.sandbox.truth(row.name)) == sorted(str(each[field_]) for each in rows)
    assert rows[0] == caller.read(row.name, id=rows[0][field_])


def test_the_company_is_one_object(caller: Caller) -> None:
    assert {"LOJA": caller.read("company")} == caller.sandbox.truth("company")


@pytest.mark.parametrize("row", [row for row in PAGED if row.inactive], ids=lambda row: row.name)
def test_inactive_objects_are_listed_on_request_and_shown_by_id(caller: Caller, row: table.Row) -> None:
    inactive = caller.thing(row.name)
    caller.sandbox.books.touch(inactive, active=False)

    def named(**params: str) -> bool:
        return inactive.data["id"] in [line["id"] for line in caller.listed(row.name, **params)]

    assert (False, False, True) == (named(), named(show_inactive="false"), named(show_inactive="true"))
    assert caller.read(row.name, id=inactive.data["id"])["active"] is False


@pytest.mark.parametrize("row", PAGED, ids=lambda row: row.name)
def test_modified_since_filters_by_modification_time(caller: Caller, row: table.Row) -> None:
    changed = caller.thing(row.name, -1)
    caller.sandbox.books.touch(changed)

    def since(moment: datetime) -> list[Any]:
        return [line["id"] for line in caller.listed(row.name, modified_since=f"{moment:%Y-%m-%dT%H:%M:%SZ}")]

    caller.sandbox.books.touch(changed, active=True)
    assert [changed.data["id"]] == since(NOON)
    assert [] == since(NOON + timedelta(seconds=1))
    caller.sandbox.inclusive = False
    assert [] == since(NOON)
    assert [changed.data["id"]] == since(NOON - timedelta(seconds=1))


@pytest.mark.parametrize("params", [{"limit": "x"}, {"page": "0"}, {"page": "-1"}, {"modified_since": "yesterday"}])
def test_an_invalid_parameter_is_400_with_errors(caller: Caller, params: dict[str, str]) -> None:
    answer = caller.get("products", **params)

    assert 400 == answer.status_code
    assert ["errors"] == list(answer.json())
    assert all(isinstance(error, str) for error in answer.json()["errors"])


@pytest.mark.parametrize(
    ("name", "params", "field_"),
    [
        ("products", {"name": "art003"}, "name"),
        ("customers", {"code": "C0002"}, "code"),
        ("customers", {"query": "C0002"}, "code"),
        ("orders", {"your_reference": "P-77"}, "your_reference"),
    ],
)
def test_a_list_is_filtered_by_its_parameters(caller: Caller, name: str, params: dict[str, str], field_: str) -> None:
    wanted = caller.thing(name, 2 if name == "products" else 1)
    if name == "orders":
        caller.sandbox.books.touch(wanted, your_reference="P-77/2")

    found = caller.listed(name, **params)

    assert [wanted.data["id"]] == [line["id"] for line in found]
    assert next(iter(params.values())).lower() in wanted.data[field_].lower()


@pytest.mark.parametrize("closed", [True, False])
def test_orders_can_be_filtered_by_closed(caller: Caller, *, closed: bool) -> None:
    assert {closed} == {order["closed"] for order in caller.listed("orders", closed=str(closed).lower())}


def test_an_object_saved_between_two_pages_moves_if_the_latest_come_first(caller: Caller) -> None:
    caller.sandbox.latest_first = True
    caller.sandbox.meanwhile.append(caller.sandbox.books.save_the_last)
    caller.advance(seconds=1)

    keys = [line["id"] for line in caller.listed("orders")]

    known = set(caller.sandbox.truth("orders"))
    assert (len(known), len(known) - 1) == (len(keys), len(set(keys)))


def test_the_key_may_change_between_two_pages(caller: Caller) -> None:
    caller.sandbox.meanwhile.append(lambda _: caller.sandbox.rotate())

    assert [200, 401] == [caller.get("orders", page=page).status_code for page in (1, 2)]
    assert 200 == caller.log_in().status_code
    assert 200 == caller.get("orders", page=2).status_code


def test_the_name_of_the_list_of_suppliers_can_be_changed(caller: Caller) -> None:
    caller.sandbox.suppliers_under = "suppliers"

    assert {"pagination", "suppliers"} == set(caller.read("suppliers"))


# Details.


@pytest.mark.parametrize("row", [row for row in PAGED if row.detail], ids=lambda row: row.name)
def test_a_detail_shows_more_than_its_line(caller: Caller, row: table.Row) -> None:
    line = caller.listed(row.name)[0]
    detail = caller.read(row.name, id=line["id"], limit="ignored", page="ignored")

    assert "pagination" not in detail
    assert line["id"] == detail["id"]
    assert set(line) - {"image"} < set(detail)


def test_a_categorys_line_equals_its_detail(caller: Caller) -> None:
    line = caller.listed("categories")[0]

    assert line == caller.read("categories", id=line["id"])


def test_an_orders_line_has_no_items_and_a_short_customer(caller: Caller) -> None:
    line = caller.listed("orders")[0]

    assert not {"items", "hash", "notes", "salesman", "loading_location"} & set(line)
    assert {"id", "code", "name", "tax_id", "active"} == set(line["customer"])


def test_an_orders_totals_are_computed_from_its_items(caller: Caller) -> None:
    for order in caller.sandbox.truth("orders").values():
        assert order["merchandise"] + order["postage"] - order["discounts"] == order["subtotal"]
        assert order["subtotal"] + order["taxes"] - order["adjustment"] == order["total"]
        assert {1, 2, 6} == {item["type"] for item in order["items"]}


@pytest.mark.parametrize("name", ["products", "categories", "customers", "salesmen", "suppliers"])
@pytest.mark.parametrize("id_", ["x", "", "1.5"])
def test_an_id_that_is_not_a_number_is_400(caller: Caller, name: str, id_: str) -> None:
    answer = caller.get(name, id=id_)

    assert (400, {"errors": ["Parameter id must be numeric"]}) == (answer.status_code, answer.json())


@pytest.mark.parametrize("row", [*PAGED, *BARE], ids=lambda row: row.name)
def test_an_unknown_id_is_404(caller: Caller, row: table.Row) -> None:
    assert 404 == caller.get(row.name, id="999999").status_code


def test_an_orders_id_is_text_with_slash_and_space(caller: Caller) -> None:
    id_ = caller.sandbox.books.new_order(id_="ECL 2026/A&B 50% nº+#/77").data["id"]

    assert id_ == caller.read("orders", id=id_)["id"]
    assert all(" " in key and "/" in key for key in caller.sandbox.truth("orders"))


def test_an_order_that_was_edited_elsewhere_is_listed_and_its_detail_409(caller: Caller) -> None:
    id_ = caller.thing("orders").data["id"]
    caller.sandbox.books.withheld.add(id_)

    assert 409 == caller.get("orders", id=id_).status_code
    (line,) = [line for line in caller.listed("orders") if line["id"] == id_]
    assert line | {"detail_unavailable": True} == caller.sandbox.truth("orders")[id_]


def test_an_open_order_is_deleted_and_a_closed_one_canceled(caller: Caller) -> None:
    closed, open_ = caller.thing("orders", 0), caller.thing("orders", 1)
    for order in (closed, open_):
        caller.sandbox.books.cancel(order)

    assert caller.read("orders", id=closed.data["id"])["canceled"] is True
    assert 404 == caller.get("orders", id=open_.data["id"]).status_code


def test_a_customers_addresses_are_listed_by_customer_and_type(caller: Caller) -> None:
    customer = caller.thing("customers", 2)
    id_ = customer.data["id"]

    listed = caller.read("customeraddresses", customer=id_)

    assert ["Empresa", "Entrega", "Obra Nova"] == [address["type"] for address in listed]
    assert listed[1:2] == caller.read("customeraddresses", customer=id_, type="Entrega")
    detail = caller.read("customers", id=id_)
    assert [address["street"] for address in listed] == [
        detail["billing_address"]["street"],
        detail["shipping_address"]["street"],
        detail["other_addresses"][0]["street"],
    ]


def test_a_customers_addresses_may_be_wrapped(caller: Caller) -> None:
    id_ = caller.thing("customers").data["id"]
    bare = caller.read("customeraddresses", customer=id_)
    caller.sandbox.addresses_wrapped = True

    assert {"addresses": bare} == caller.read("customeraddresses", customer=id_)


@pytest.mark.parametrize(("params", "status"), [({}, 400), ({"customer": "x"}, 400), ({"customer": "999999"}, 404)])
def test_addresses_of_an_unknown_customer_are_refused(caller: Caller, params: dict[str, str], status: int) -> None:
    assert status == caller.get("customeraddresses", **params).status_code


# The truth.


def _as_mirrored(resource: str, detail: Any, caller: Caller) -> Any:
    """The detail in the form of the mirror: digests for images, customers with their addresses."""
    if resource == "customers":
        detail["addresses"] = caller.read("customeraddresses", customer=detail["id"])
    if "images" in detail:
        detail["images"] = [_digest(image) for image in detail["images"]]
    if "image" in detail:
        detail["image"] = _digest(detail["image"])
    return detail


def _digest(image: str) -> Any:
    content = base64.b64decode(image)
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} if content else image


@pytest.mark.parametrize("row", [*PAGED, *BARE], ids=lambda row: row.name)
def test_the_truth_equals_the_details(caller: Caller, row: table.Row) -> None:
    truth = caller.sandbox.truth(row.name)

    assert truth
    for key, true in truth.items():
        shown = _as_mirrored(row.name, caller.read(row.name, id=key), caller)
        assert exact.canonical(true) == exact.canonical(shown)


def test_some_products_have_images_and_some_have_none(caller: Caller) -> None:
    counts = {len(product["images"]) for product in caller.sandbox.truth("products").values()}

    assert {0, 1, 2} == counts


def test_numbers_are_exact_and_tax_ids_have_their_control_digit(caller: Caller) -> None:
    product = caller.read("products", id=caller.thing("products").data["id"])
    assert isinstance(product["price"], Decimal)
    for customer in caller.sandbox.truth("customers").values():
        digits = [int(digit) for digit in customer["tax_id"]]
        rest = sum(digit * (9 - place) for place, digit in enumerate(digits[:8])) % 11
        assert (0 if rest < 2 else 11 - rest) == digits[8]


def test_the_same_seed_creates_the_same_company() -> None:
    first, second, other = (
        sandbox_module.create(seed=seed, now=lambda: NOON).state.sandbox.truth("customers") for seed in (4, 4, 5)
    )

    assert first == second
    assert first != other


def test_the_settings_have_every_resource(caller: Caller) -> None:
    settings = caller.sandbox.settings()

    assert "wisedat" == settings["system"]
    assert sorted(table.NAMES) == sorted(settings["resources"])
    assert LOGIN == ";".join(settings[name] for name in ("api_key", "user", "password"))


# The server.


def test_the_date_header_is_the_servers_clock(caller: Caller) -> None:
    caller.advance(hours=3)

    assert NOON + timedelta(hours=3) == parsedate_to_datetime(caller.get("taxes").headers["Date"])
    assert NOON + timedelta(hours=3) == parsedate_to_datetime(caller.http.get("/status").headers["Date"])


def test_requests_are_recorded_in_order(caller: Caller) -> None:
    caller.get("orders", id="ECL 2026/1")

    assert ["GET /status", "POST /authentication/login", "GET /orders?id=ECL+2026%2F1"] == caller.sandbox.asked


def test_parallel_requests_are_counted(caller: Caller) -> None:
    assert 1 == caller.sandbox.max_parallel
    caller.sandbox.latency = 0.5

    threads = [threading.Thread(target=caller.get, args=("taxes",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 2 == caller.sandbox.max_parallel


@pytest.mark.parametrize(
    ("fault", "status", "begins"),
    [("html", 200, "<!DOCTYPE"), ("empty", 200, ""), ("scalar", 200, "42"), ("429", 429, "busy"), ("500", 500, "An")],
)
def test_a_fault_replaces_the_next_answer(caller: Caller, fault: str, status: int, begins: str) -> None:
    caller.sandbox.faults.append(sandbox_server.Fault(fault))

    answer = caller.get("taxes")

    assert (status, begins) == (answer.status_code, answer.text[: len(begins)])
    assert begins or answer.content == b""
    assert 200 == caller.get("taxes").status_code


def test_an_answer_can_be_cut_dripping_or_slow(caller: Caller) -> None:
    whole = caller.get("units").content
    caller.sandbox.drip = caller.sandbox.slow = 0.001
    caller.sandbox.faults += [sandbox_server.Fault.HALF, sandbox_server.Fault.DRIP, sandbox_server.Fault.SLOW]

    assert [whole[: len(whole) // 2], whole, whole] == [caller.get("units").content for _ in range(3)]


@pytest.mark.parametrize("path", ["nothing", "products/101", "product"])
def test_undocumented_paths_are_404(caller: Caller, path: str) -> None:
    assert 404 == caller.get(path).status_code


def test_nothing_can_be_written(caller: Caller) -> None:
    answer = caller.http.post("/products", json={}, headers={"Authorization": f"Bearer {caller.token}"})

    assert 405 == answer.status_code


# Edits.


def _everything(sandbox: Sandbox) -> dict[str, Any]:
    return {name: sandbox.truth(name) for name in table.NAMES}


QUIET = {
    "the server changed its daily key; all tokens are invalid",
    "the key will change between two pages of a list",
    "an object will move between two pages of a list",
}


def test_each_step_of_the_story_changes_the_company_or_the_server(caller: Caller) -> None:
    sentences: list[str] = []
    before = _everything(caller.sandbox)
    for sentence in caller.sandbox.story():
        sentences.append(sentence)
        after = _everything(caller.sandbox)
        assert (before != after) or sentence in QUIET, sentence
        before = after

    assert 15 <= len(sentences)
    assert [] == [sentence for sentence in sentences if sentences.count(sentence) > 1]


def test_the_story_has_every_kind_of_change_that_mirrors_get_wrong(caller: Caller) -> None:
    """Classify each change by whether the modification date and the list's line show it; all kinds must occur."""
    books = caller.sandbox.books
    seen: set[object] = set()
    lines = _lines(caller)
    truth, stamps = _everything(caller.sandbox), _stamps(caller)
    for _ in caller.sandbox.story():
        caller.advance(minutes=1)
        for name in ("products", "customers", "orders"):
            for key in truth[name].keys() & caller.sandbox.truth(name).keys():
                now = caller.sandbox.truth(name)[key]
                thing = books.find(name, key)
                assert thing is not None
                if now == truth[name][key]:
                    continue
                same_line = books.line(name, thing) == lines[name][key]
                seen.add(("silent" if thing.modified == stamps[name][key] else "dated", same_line))
            seen |= {f"deleted {name}"} if truth[name].keys() - caller.sandbox.truth(name).keys() else set()
        seen |= {"withheld"} if books.withheld else {"readable"} if "withheld" in seen else set()
        lines, truth, stamps = _lines(caller), _everything(caller.sandbox), _stamps(caller)

    expected = {
        ("dated", True),
        ("dated", False),
        ("silent", False),
        "deleted products",
        "deleted orders",
        "withheld",
        "readable",
    }
    assert expected == seen


def _lines(caller: Caller) -> dict[str, dict[str, Any]]:
    books = caller.sandbox.books
    return {
        name: {books.key(name, thing): books.line(name, thing) for thing in books.tables[name]}
        for name in ("products", "customers", "orders")
    }


def _stamps(caller: Caller) -> dict[str, dict[str, datetime]]:
    books = caller.sandbox.books
    return {
        name: {books.key(name, thing): thing.modified for thing in books.tables[name]}
        for name in ("products", "customers", "orders")
    }


@pytest.mark.parametrize("caller", [{"silent_addresses": True}], indirect=True)
def test_an_address_can_change_without_the_customers_modification_date(caller: Caller) -> None:
    day = sandbox_day.Day(caller.sandbox, Random(1))
    stamps, truth = _stamps(caller)["customers"], caller.sandbox.truth("customers")
    caller.advance(minutes=1)

    day.change_address()

    assert truth != caller.sandbox.truth("customers")
    assert stamps == _stamps(caller)["customers"]


def test_hundreds_of_everyday_edits_leave_enough_objects(caller: Caller) -> None:
    random, sentences = Random(2), set()
    for _ in range(300):
        caller.advance(seconds=30)
        sentences.add(caller.sandbox.edit(random).split(" ")[0])

    assert {"order", "product", "customer", "tax"} <= sentences
    assert 12 <= len(caller.sandbox.truth("orders"))
    assert 12 == len(caller.sandbox.truth("products"))
    for name in table.NAMES:
        assert caller.sandbox.truth(name)
