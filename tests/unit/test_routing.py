"""Which tools the light router runs, all three real: whole sets of questions in both languages."""

import asyncio
import re
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest

from server.backends.embedding import HashingEmbedder
from server.documents import words
from server.documents.vocabulary import Vocabulary
from server.settings import STARTER
from server.sql import catalog as catalogs
from server.tools.docs import DocsTool
from server.tools.selector import Router
from server.tools.settings import ToolSettings
from server.tools.sql import SAMPLE_CATALOG, SqlTool
from server.tools.web import WebTool
from tests.tools import a_question
from trainer.starter import shop

ROUTER = Router(ToolSettings.model_validate({}).tool_threshold)
ORDERS = (
    "Where is my order TT-12345?",
    "Has order TT-12345 been shipped?",
    "Đơn hàng TT-12345 đang ở đâu?",
    "Don hang TT-12345 cua minh dang o dau?",
)
WEB = (
    "What do the news say about the floods?",
    "Search the web for the highest peak of Laos",
    "What is on https://example.com/routes?",
    "Thời tiết Sa Pa hôm nay thế nào?",
    "Thoi tiet Sa Pa hom nay the nao?",
    "Tìm trên mạng giúp mình đỉnh núi cao nhất nước Lào",
)
CHAT = ("Hello!", "Thanks a lot", "Xin chào", "Cảm ơn bạn nhiều", "haha", "?", "")


class Shelf:
    """`server.storage.passages.Passages`, of which only the vocabulary is wanted: the starter's help pages'."""

    async def search(self, search: Any, vocabulary: Vocabulary) -> list[Any]:
        return []

    async def vocabulary(self, tenant: str) -> Vocabulary:
        passages = [
            part
            for page in sorted((STARTER / "help_pages").iterdir())
            for part in re.split(r"(?m)^## ", page.read_text())
        ]
        forms = [{form for term in words.terms(each) for form in (term.plain, term.spelt) if form} for each in passages]
        return Vocabulary(1, len(passages), Counter(form for each in forms for form in each))

    async def versions(self, tenants: Any) -> dict[str, int]:
        return {}


@pytest.fixture(scope="module")
async def tools() -> Any:
    unused: Any = None
    docs = DocsTool(Shelf(), HashingEmbedder())
    await docs.run(a_question("warranty"))  # reads the vocabulary
    sql = SqlTool(catalogs.load(SAMPLE_CATALOG), unused, ThreadPoolExecutor(1), rows=10)
    return docs, WebTool(unused, unused, unused, results=1, timeout=1.0, budget=1.0), sql


async def routed(tools: Any, query: str) -> set[str]:
    return {each.tool.name for each in await ROUTER.select(a_question(query), tools, 1.0)}


async def shares(tools: Any, queries: tuple[str, ...]) -> dict[str, float]:
    """For each tool, the share of `queries` that it runs for."""
    chosen = Counter(
        name for found in await asyncio.gather(*(routed(tools, query) for query in queries)) for name in found
    )
    return {tool.name: chosen[tool.name] / len(queries) for tool in tools}


def bare(text: str) -> str:
    letters = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


@pytest.mark.parametrize("language", ["en", "vi"])
@pytest.mark.parametrize("spelt", [str, bare])
async def test_what_people_ask_the_help_desk_goes_to_the_documents(
    tools: Any, language: Literal["en", "vi"], spelt: Any
) -> None:
    queries = tuple(spelt(text) for one in shop.faq() for text in one.wording[language].ask)
    found = await shares(tools, queries)
    assert found["docs"] > 0.9
    assert found["web"] < 0.01
    assert found["sql"] < 0.01


@pytest.mark.parametrize("query", ORDERS)
async def test_a_question_for_an_order_goes_to_the_database_and_not_to_the_web(tools: Any, query: str) -> None:
    found = await routed(tools, query)
    assert "sql" in found
    assert "web" not in found


@pytest.mark.parametrize("query", WEB)
async def test_a_question_for_the_world_goes_to_the_web_and_not_to_the_database(tools: Any, query: str) -> None:
    found = await routed(tools, query)
    assert "web" in found
    assert "sql" not in found


@pytest.mark.parametrize("query", CHAT)
async def test_small_talk_needs_no_tool(tools: Any, query: str) -> None:
    assert await routed(tools, query) == set()
