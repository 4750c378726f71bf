"""Which replies are meant: by flags of a command, by an address of the console."""

import sys
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli import log_filters
from cli.main import ratchet
from console.logs.filters import FLAGS, PATH, REACTIONS, SPANS, Filters
from ratchet.v1 import conversation_pb2 as pb
from ratchet.v1 import feedback_pb2
from server.rpc.validation import require_valid

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WORDS = st.dictionaries(
    st.sampled_from([*Filters.__dataclass_fields__, "page", "x"]),
    st.one_of(
        st.text(max_size=300),
        st.sampled_from(
            ["1-2", "3", "0.4-0.7", "9-1", "2026-11-22", "0001-01-01", "9999-12-31", "1h", "safety_reported"]
        ),
        st.sampled_from([*FLAGS, *REACTIONS, *SPANS, "refused,degraded", ",,,"]),
    ),
)


@given(WORDS)
def test_any_address_gives_a_valid_request_and_an_address_that_means_the_same(address: dict[str, str]) -> None:
    filters = Filters.of(address)
    require_valid(filters.request(NOW))
    assert Filters.of(dict(parse_qsl(urlsplit(filters.address).query))) == filters


def test_an_alerts_link_is_understood() -> None:
    filters = Filters.of({"release": "policy-000002", "rating": "1-2", "flag": "safety_reported", "time": "24h"})
    request = filters.request(NOW)
    assert (request.minimum_rating, request.maximum_rating, request.release) == (1, 2, "policy-000002")
    assert list(request.flags) == [pb.CONVERSATION_FLAG_SAFETY_REPORTED]
    assert request.from_time.ToDatetime(UTC) == NOW - timedelta(days=1)
    assert not request.HasField("minimum_reward")
    assert not request.HasField("user_id")
    assert filters.without("rating").address == f"{PATH}?release=policy-000002&flag=safety_reported&time=24h"


@pytest.mark.parametrize("text", ["1.5-1.7", "1.0", "٣", "１-２", "0-3", "3-6", "2-1", "1-", "12"])
def test_a_rating_is_a_whole_number_in_ascii_from_one_to_five(text: str) -> None:
    assert Filters.of({"rating": text}).rating == ""
    assert Filters.of({"rating": "2-5"}).rating == "2-5"


@pytest.mark.parametrize("text", ["1.5", "0.７", "2", "0.9-0.1", "-1", "1e3"])
def test_a_score_is_between_nothing_and_one_in_ascii(text: str) -> None:
    assert Filters.of({"score": text}).score == ""
    assert Filters.of({"score": "0.25-1"}).score == "0.25-1"


def test_days_are_meant_whole_and_the_later_beginning_holds() -> None:
    request = Filters.of({"from_day": "2026-11-20", "until_day": "2026-11-21", "time": "30d"}).request(NOW)
    assert request.from_time.ToDatetime(UTC) == datetime(2026, 11, 20, tzinfo=UTC)
    assert request.until_time.ToDatetime(UTC) == datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T15:00", datetime(2026, 1, 31, 15, tzinfo=UTC)),
        ("2026-01-31T15:00+07:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
    ],
)
def test_a_time_of_a_flag_is_utc_unless_it_says_otherwise(text: str, moment: datetime) -> None:
    assert log_filters.Moment().convert(text, None, None) == moment


def test_a_time_can_be_so_long_ago() -> None:
    found = log_filters.Moment().convert("90m", None, None)
    assert timedelta(minutes=90) <= datetime.now(UTC) - found < timedelta(minutes=91)
    for nonsense in ("yesterday", "-1h", "1w", "999999d", ""):
        with pytest.raises(click.BadParameter):
            log_filters.Moment().convert(nonsense, None, None)


def test_a_manifest_names_nobody_and_quotes_nothing() -> None:
    told = log_filters.told(
        {"user": "ann", "session": "s", "text": "secret", "release": "r", "flags": (), "since": NOW}
    )
    assert told == {"user": True, "session": True, "text": True, "release": "r", "since": NOW.isoformat()}


def test_parquet_without_pyarrow_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before the server is asked: there is none here."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    done = CliRunner().invoke(ratchet, ["logs", "export", "--format", "parquet", "--address", "127.0.0.1:1"])
    assert (done.exit_code, "needs pyarrow" in done.output) == (1, True)


def test_thumbs_are_the_apis() -> None:
    names = [
        each.removeprefix("REACTION_TYPE_").lower() for each in feedback_pb2.ReactionType.DESCRIPTOR.values_by_name
    ]
    assert set(REACTIONS) == set(log_filters.REACTIONS) == set(names) - {"unspecified"}
