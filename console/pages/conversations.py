"""The pages of the log: searching it, and the whole story of one reply."""

from nicegui import ui

from console import shell
from console.logs.filters import PATH, Filters
from console.logs.listing import Listing
from console.logs.search import SearchForm
from console.logs.story import StoryPage
from console.words import t


@shell.page(PATH, nav="conversations", icon="manage_search", order=30)
def conversations() -> None:
    """The list; the address says which replies."""
    request = ui.context.client.request
    filters = Filters.of(dict(request.query_params) if request else {})
    with shell.frame(t("conversations.title")):
        SearchForm(filters)
        Listing(filters)


@shell.page(f"{PATH}/{{response_id}}")
def story(response_id: str) -> None:
    """One reply."""
    with shell.frame(t("conversations.story")):
        StoryPage(response_id)
