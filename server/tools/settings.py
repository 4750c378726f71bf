"""Settings of the tools. Each is an environment variable and a flag, see server/settings.py."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, Field, ValidationInfo, field_validator

TOOLS: Final[Mapping[str, str]] = {"docs": "", "web": "RATCHET_WEB_SEARCH_URL", "sql": "RATCHET_SQL_URL"}
"""The names of all tools there are, with the setting that each needs beside its name in RATCHET_TOOLS; the sample data
are enough for sql. What makes them is in server/tools/registry.py, which is heavier to import.
"""


class ToolSettings(BaseModel):
    """Which tools there are and what they may take. Times are seconds, sizes bytes."""

    tools: str = Field(",".join(TOOLS), description="Tools that may run, by name and comma; empty: none.")
    tool_threshold: float = Field(0.3, ge=0, le=1, description="Relevance below which the router does not run a tool.")
    docs_passages: int = Field(3, ge=1, le=16, description="Passages that the docs tool gives.")
    docs_relevance: float = Field(0.25, ge=0, le=1, description="Relevance below which a passage is no evidence.")
    web_search_url: str | None = Field(None, description="A SearXNG-compatible search endpoint; without, no web tool.")
    web_results: int = Field(2, ge=1, le=8, description="Pages that the web tool reads for a query.")
    web_bytes: int = Field(2 << 20, ge=1024, description="Bytes of a page that are read at most.")
    web_timeout: float = Field(1.5, gt=0, description="Seconds for the search, and for each page.")
    web_ports: str = Field("80,443", description="Ports that pages may be read from, by comma.")
    sql_url: str | None = Field(
        None,
        repr=False,
        description="The database that the SQL tool reads, with its read-only role; default: the sample.",
    )
    sql_catalog: Path | None = Field(
        None, validate_default=True, description="What of that database may be asked: a TOML file."
    )
    sql_rows: int = Field(10, ge=1, le=1000, description="Rows that the SQL tool gives.")
    sql_timeout: float = Field(1.0, gt=0, description="Seconds that a statement may take.")

    @field_validator("tools")
    @classmethod
    def _known(cls, value: str) -> str:
        chosen(value)
        return value

    @field_validator("web_ports")
    @classmethod
    def _ports(cls, value: str) -> str:
        for port in value.split(","):
            if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
                raise ValueError(f"it must be ports from 1 to 65535 with commas between, such as 80,443, not {value!r}")
        return value

    @field_validator("sql_catalog")
    @classmethod
    def _catalog(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            if info.data.get("sql_url"):
                raise ValueError("it must name the TOML file of what may be asked at RATCHET_SQL_URL")
            return None
        path = value.expanduser().absolute()
        if not path.is_file():
            raise ValueError(f"there is no file {value}")
        return path


def chosen(setting: str, known: Iterable[str] = TOOLS) -> tuple[str, ...]:
    """The names in the comma-separated `setting`, each once. Raises ValueError for one that is not `known`."""
    known = sorted(known)
    names = tuple(dict.fromkeys(name.strip().lower() for name in setting.split(",") if name.strip()))
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise ValueError(f"{name!r} is no tool: {hint}")
    return names
