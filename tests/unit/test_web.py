"""The web tool without a network: where it may go, what a page says, when it helps."""

import gzip
import ipaddress
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text import folded
from server.tools import web_query
from server.tools.tool import ToolFailed, ToolRefused
from server.tools.web_page import Page, Unreadable, best, clean, decode, read, unpack
from server.tools.web_reach import Reach, is_public
from server.tools.web_search import hits

REACH = Reach()
PRIVATE = [
    *("0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.0.9", "169.254.169.254"),
    *("168.63.129.16", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
    *("198.18.0.1", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::7f00:1"),
    *("64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:db8::1"),
    *("2002:7f00:1::1", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1"),
    *("ff02::1", "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a00:1"),
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "93.184.215.14",
    "172.15.0.1",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_the_public_internet_is_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    with pytest.raises(ToolRefused, match="no public address"):
        REACH.require_address(address, "name.example")
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(ToolRefused):
        REACH.require_url(f"http://{host}/")


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_allowed(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    REACH.require_address(address, "name.example")
    REACH.require_url(f"https://{f'[{address}]' if ':' in address else address}/page")


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_inside_another_gets_through(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    for outer in (
        number,  # compatible
        0xFFFF << 32 | number,  # mapped
        0x64FF9B << 96 | number,  # NAT64
        0x2002 << 112 | number << 80 | 1,  # 6to4
        0x20010000 << 96 | (number ^ 0xFFFFFFFF),  # Teredo
        0x26064700 << 96 | 0x5EFE << 32 | number,  # ISATAP
    ):
        assert not is_public(ipaddress.IPv6Address(outer))


@given(st.ip_addresses())
def test_what_is_allowed_is_global_and_of_no_special_kind(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(address):
        kinds = ("private", "loopback", "link_local", "multicast", "reserved", "unspecified")
        assert address.is_global
        assert not [kind for kind in kinds if getattr(address, f"is_{kind}")]


@pytest.mark.parametrize(
    "url",
    [
        *("http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/"),
        *("http://127.0.0.1./", "http://0/", "http://00000000177.0.0.1/", "http://134744072/", "http://8.8.8.8.8/"),
        *(
            "http://①②⑦.0.0.1/",
            "http://１２７.0.0.1/",
            "http://127。0。0。1/",
            "http://[::1%25lo]/",
            "http://[fe80::1%eth0]/",
        ),
        *("http://[::]/", "http://[::ffff:7f00:1]/", "http://%31%32%37.0.0.1/"),
        *(
            "ftp://example.com/",
            "file:///etc/passwd",
            "gopher://example.com/",
            "javascript:alert(1)",
            "data:text/html,x",
        ),
        *("http:///path", "//example.com/", "example.com", "", "http://", "http://:80/", "http://exa mple.com/"),
        *("http://user@example.com/", "http://user:pass@example.com/", "http://:pass@example.com/"),
        *("http://example.com:22/", "https://example.com:8443/", "http://example.com:0/", "http://example.com:99999/"),
        *("http://example.com:port/", "http://[::1", "http://example.com/" + "a" * 2048, "http://exam\x00ple.com/"),
    ],
)
def test_an_address_that_hides_where_it_leads_or_is_none_is_refused(url: str) -> None:
    with pytest.raises(ToolRefused):
        REACH.require_url(url)


@pytest.mark.parametrize(
    "url",
    ["http://example.com", "https://example.com:443/a?b=c#d", "http://bảo-hành.example/đổi trả", "http://3com.com/"],
)
def test_a_plain_address_is_allowed(url: str) -> None:
    assert REACH.require_url(url).port in (80, 443)


@given(
    st.lists(
        st.sampled_from(
            [
                "http://",
                "https://",
                "127.0.0.1",
                "[::1]",
                "0x7f",
                ".",
                "@",
                ":",
                "/",
                "\\",
                "#",
                "?",
                "%",
                "1",
                "a.b",
                "\n",
            ]
        )
        | st.text(max_size=4)
    ).map("".join)
)
def test_any_text_is_an_address_to_a_named_or_public_host_or_refused(text: str) -> None:
    try:
        url = REACH.require_url(text)
    except ToolRefused:
        return
    assert url.scheme in ("http", "https")
    assert url.raw_host
    assert url.user is None
    try:
        address = ipaddress.ip_address(url.raw_host)
    except ValueError:
        assert not url.raw_host.rpartition(".")[2].isdecimal()
    else:
        assert is_public(address)


def test_other_ports_may_be_configured() -> None:
    assert Reach(frozenset({8080})).require_url("http://example.com:8080/").port == 8080
    with pytest.raises(ToolRefused, match="only 8080"):
        Reach(frozenset({8080})).require_url("http://example.com/")


ARTICLE = """<html><head><title>Warranty | Shop</title><script>track("warranty")</script></head><body>
<nav>Home Basket Login</nav><article><h1>Warranty</h1><p>All of our products come with a warranty of 24 months from the
day of delivery.</p><p>Our shop was founded in 1998 by two climbers who could not find a decent tent anywhere.</p>
<p>Tất cả sản phẩm được bảo hành 24 tháng kể từ ngày giao hàng.</p></article></body></html>"""


def a_page(body: bytes = ARTICLE.encode(), content_type: str = "text/html", **changes: str) -> Page:
    fields = {"url": "http://example.com/", "charset": "", "encoding": "", **changes}
    return Page(content_type=content_type, body=body, **fields)


@pytest.mark.parametrize("query", ["bảo hành bao lâu", "bao hanh bao lau"])
def test_the_passages_that_fit_are_found_with_and_without_diacritics(query: str) -> None:
    reading = read(a_page(), query, 1 << 20, 100)
    assert reading.title == "Warranty | Shop"
    assert reading.text == "Tất cả sản phẩm được bảo hành 24 tháng kể từ ngày giao hàng."
    assert 0 < reading.score <= 1


def test_scripts_and_menus_are_no_text() -> None:
    text = read(a_page(), "", 1 << 20, 5000).text
    assert "24 months" in text
    assert "track" not in text


@pytest.mark.parametrize("charset", ["", "utf-8", "iso-8859-1", "no-such-charset", "unicode_escape", "zip"])
def test_a_wrong_charset_does_not_spoil_what_is_utf8(charset: str) -> None:
    assert "bảo hành" in read(a_page(charset=charset), "bảo hành", 1 << 20, 400).text


def test_the_charset_of_server_or_page_is_used_else_a_western_one() -> None:
    assert decode("đổi".encode("cp1258", "ignore") + "đ".encode("cp1258"), "windows-1258").endswith("đ")
    assert decode('<meta charset="koi8-r">да'.encode("koi8-r"), "").endswith("да")
    assert decode(b"caf\xe9 au lait", "") == "café au lait"
    assert decode("bế".encode()[:3], "") == "b"


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "raw deflate"])
def test_packed_bodies_are_unpacked_up_to_the_bound(encoding: str) -> None:
    bomb = b"\0" * (4 << 20)
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = {
        "gzip": gzip.compress(bomb),
        "deflate": zlib.compress(bomb),
        "raw deflate": raw.compress(bomb) + raw.flush(),
    }[encoding.removeprefix("x-")]
    assert unpack(packed, encoding.removeprefix("raw "), 4096) == bomb[:4096]
    assert unpack(packed[:20], encoding.removeprefix("raw "), 4096) is not None


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip"])
def test_what_cannot_be_unpacked_is_said(encoding: str) -> None:
    with pytest.raises(Unreadable, match="packed"):
        unpack(b"not packed at all", encoding, 4096)


def test_what_cannot_be_seen_is_taken_out() -> None:
    assert clean("a\x00b\u202ec\u200bd\ufeff \r\n\t e\x1b[31m") == "abcd e[31m"
    assert clean("ba\u0309o ha\u0300nh") == "bảo hành"


@given(st.text(max_size=2000), st.text(max_size=60), st.integers(1, 500))
def test_passages_are_of_the_text_and_within_the_bound(text: str, query: str, characters: int) -> None:
    passages, score = best(text, query, characters)
    assert len(passages) <= characters
    assert 0 <= score <= 1 + 1e-9
    assert "\n" not in passages
    assert bool(passages) == bool(clean(text))


def test_rare_words_of_the_query_count_more_than_common_ones() -> None:
    text = "\n".join(
        [*(f"The shop is the place number {n} for the tents." for n in range(20)), "A warranty of 24 months."]
    )
    assert best(text, "what is the warranty of the shop", 60)[0] == "A warranty of 24 months."


def test_a_pdf_that_is_none_is_said() -> None:
    with pytest.raises(Unreadable, match="PDF"):
        read(a_page(b"%PDF-1.7 nonsense", "application/pdf"), "q", 1 << 20, 100)


@pytest.mark.parametrize("body", [b"", b"<", b"\x00\x01\x02" * 999, b"<p>" * 1000, b"<!--" * 999])
def test_no_page_is_hostile_enough_to_do_more_than_say_nothing(body: bytes) -> None:
    try:
        reading = read(a_page(body), "warranty", 1 << 20, 100)
    except Unreadable:
        return
    assert len(reading.text) <= 100


def test_search_results_are_read_once_each() -> None:
    results = [
        {"url": "http://a.example/", "title": "A\u202e", "content": "x" * 2000, "score": 3},
        {"url": "http://b.example/", "title": None},
        {"url": "http://a.example/", "title": "again"},
        {"title": "no address"},
        "no result",
    ]
    found = hits(json.dumps({"query": "q", "results": results}).encode())
    assert [(hit.url, hit.title, len(hit.snippet)) for hit in found] == [
        ("http://a.example/", "A", 800),
        ("http://b.example/", "", 0),
    ]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"results": 7}', b"{}", b"[" * 100_000, b"\xff"])
def test_an_answer_that_is_no_search_result_is_said(body: bytes) -> None:
    with pytest.raises(ToolFailed, match="SearXNG"):
        hits(body)


@pytest.mark.parametrize(
    ("query", "low", "high"),
    [
        ("What does https://example.com/offer say?", 1, 1),
        ("read http://169.254.169.254/latest/meta-data", 1, 1),
        ("Search the web for the best trail maps", 0.9, 1),
        ("tìm trên mạng giúp mình giá lều", 0.9, 1),
        ("tim tren mang giup minh gia leu", 0.9, 1),
        ("What is in the news?", 0.7, 0.9),
        ("tin tức về leo núi", 0.7, 0.9),
        ("thoi tiet Da Lat", 0.7, 0.9),
        ("Which is the latest trail record?", 0.4, 0.6),
        ("kỷ lục mới nhất là gì", 0.4, 0.6),
        ("How long is the warranty?", 0, 0.3),
        ("Bảo hành bao lâu vậy shop?", 0, 0.3),
        ("Will my parcel arrive today?", 0, 0.3),
        ("Đơn hàng của tôi hôm nay đến chưa?", 0, 0.3),
        ("Where is order TT-12345?", 0, 0.3),
        ("", 0, 0.3),
        ("Google it, please", 0.9, 1),
        ("Search Google for the highest peak", 0.9, 1),
        ("lên google xem giúp mình đỉnh núi cao nhất", 0.9, 1),
        ("Find the height of Fansipan online", 0.8, 0.9),
        ("Do you accept Google Pay?", 0, 0.3),
        ("Can I pay with Google Pay at the till?", 0, 0.3),
        ("Shop có nhận Google Pay không?", 0, 0.3),
        ("thanh toan qua google pay duoc khong", 0, 0.3),
        ("find a store near me online", 0, 0.3),
        ("Can I order on the internet?", 0, 0.3),
        ("Cửa hàng có bán trên mạng không?", 0, 0.3),
    ],
)
def test_the_web_helps_who_asks_for_it_and_for_what_is_current(query: str, low: float, high: float) -> None:
    assert low <= web_query.relevance(query) <= high


def test_addresses_are_found_in_a_query_each_once() -> None:
    query = "Xem (https://a.example/x?y=1), HTTP://b.example. www.c.example/z, d.com/e và https://a.example/x?y=1!"
    assert web_query.addresses(query) == [
        "https://a.example/x?y=1",
        "HTTP://b.example",
        "https://www.c.example/z",
        "https://d.com/e",
    ]
    assert "example" not in web_query.without_addresses(query)


@pytest.mark.parametrize(
    "query",
    [
        "mailto:a@b.com/c and 10:30//x",
        "C++://hello",
        "file:///etc/passwd",
        "ftp://x.com/y",
        "Is it cheaper on ridge.com?",
        "I wrote to help@ridge.com/vn",
        "and/or, Node.js/io, www, 1.5/2",
        "a." * 2000 + "com",
    ],
)
def test_what_only_looks_like_an_address_is_none(query: str) -> None:
    assert web_query.addresses(query) == []
    assert web_query.relevance(query) < 0.3


@pytest.mark.parametrize(
    ("query", "preferred", "language"),
    [
        ("bảo hành", "", "vi"),
        ("ba\u0309o ha\u0300nh đ", "", "vi"),
        ("café", "", "auto"),
        ("bảo hành", "en", "en"),
        ("bảo hành", "english; drop", "vi"),
    ],
)
def test_the_search_asks_for_the_language_of_user_or_query(query: str, preferred: str, language: str) -> None:
    assert web_query.language(query, preferred) == language


@given(st.text(max_size=200))
def test_folding_is_the_same_for_composed_and_decomposed_text(text: str) -> None:
    import unicodedata

    assert folded(unicodedata.normalize("NFD", text)) == folded(unicodedata.normalize("NFC", text))
