"""How another process reaches the parts of the Ratchet that runs from a home."""

from server.embedded import postgres, status, valkey
from server.embedded.errors import PartMissing
from server.embedded.layout import Layout
from server.embedded.settings import EmbeddedSettings, Endpoints


def endpoints(settings: EmbeddedSettings) -> Endpoints | None:
    """Those of the parts that run, and the URLs that `settings` give instead; None when no Ratchet runs from the home.

    Raises PartMissing when it uses a server of somebody else's whose URL is not given here, and HomeUnusable when its
    files can't be read.
    """
    running = status.read(settings.home)
    if running is None:
        return None
    layout = Layout.of(settings.home)
    own = {part.name: part for part in running.parts if part.state != "external"}
    _require("DATABASE_URL", settings.database_url or "postgres" in own, layout)
    if settings.triton:
        _require("TRITON_URL, or RATCHET_BACKEND,", settings.triton_url or "triton" in own, layout)
    return Endpoints(
        database_url=settings.database_url or postgres.running_url(layout),
        redis_url=settings.redis_url or (valkey.url(layout) if "valkey" in own else ""),
        triton_url=settings.triton_url or (own["triton"].address if settings.triton else ""),
        triton_http_url=None,
        model_repository=None if settings.triton_url else layout.models,
    )


def _require(advice: str, there: object, layout: Layout) -> None:
    if not there:
        raise PartMissing(
            f"The Ratchet that runs from {layout.home} does not run all parts itself: set {advice} as it has it."
        )


def holds_data(settings: EmbeddedSettings) -> bool:
    """Whether there is a database: a URL's, or one that was made in the home before."""
    return bool(settings.database_url) or Layout.of(settings.home).postgres_data.exists()
