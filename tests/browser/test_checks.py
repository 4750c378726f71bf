"""The checks of pages must see what they look for."""

from playwright.async_api import Page

from tests.browser import checks

GOOD = """<!doctype html><html lang="en"><body><nav>x</nav><main><h1>One</h1><h2>Two</h2>
<label>Name <input></label><button aria-label="Close">×</button></main></body></html>"""
BAD = """<!doctype html><html lang="en"><body><main><h1>One</h1><h3 id="a">Three</h3><img id="a" src="data:,">
<input><button><i aria-hidden="true">close</i></button><p style="color: #999">faint</p>
<div style="width: 5000px">wide</div></main></body></html>"""


async def test_a_good_page_has_nothing_wrong(page: Page) -> None:
    await page.set_content(GOOD)
    for check in (checks.unnamed, checks.disorder, checks.faint, checks.too_wide):
        assert await check(page) == []


async def test_each_fault_of_a_bad_page_is_found(page: Page) -> None:
    await page.set_content(BAD)
    assert len(await checks.unnamed(page)) == 2
    assert {each.split(":")[0] for each in await checks.disorder(page)} == {
        "0 of navigation",
        "a heading of level 3 after 1",
        "no alt",
        "two of #a",
    }
    assert [each.split(":")[0] for each in await checks.faint(page)] == ["2.85"]
    assert (await checks.too_wide(page))[0].startswith("the page is 50")


async def test_a_blank_picture_has_few_colours(page: Page) -> None:
    await page.set_content("")
    assert await checks.colours(page, await page.screenshot()) == 1
