"""The release manifest: `release.json`, read, checked and written.

A release is complete when its manifest is there: `write` puts it in place last. The manifest's hashes cover
the release's own files (weights, tokenizer); `config.pbtxt` and `1/*.py` are Ratchet's code, put there by
`triton_models.release.install`, and are not hashed.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, cast, get_args

from triton_models.contract import CODE, EMBEDDING, PROBABILITIES, VERSION, Kind

MANIFEST: Final = "release.json"
CODE_FILES: Final = frozenset(
    {
        "config.pbtxt",
        f"{VERSION}/model.json",
        *(f"{VERSION}/{name}" for names in CODE.values() for name in names),
    }
)
SCHEMA_VERSION: Final = 1
_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROWS: Final = frozenset({"format", "max_length", "token_type_ids"})
_SERIALIZER_KEYS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "reward": (_ROWS, frozenset({"vocab_size"})),
    "embedding": (_ROWS | {"dimension"}, frozenset({"vocab_size", "prefix"})),
    "classifier": (_ROWS | {"labels"}, frozenset({"vocab_size"})),
    "policy": (
        frozenset({"max_input_tokens", "max_context", "chat_template"}),
        frozenset({"seeded", "end_tokens", "stop", "functions"}),
    ),
}


_OUTPUTS: Final[Mapping[str, tuple[str, ...]]] = {"embedding": (EMBEDDING,), "classifier": (PROBABILITIES,)}


class ReleaseError(Exception):
    """A release that can't be used; its text is one sentence that says what is wrong and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What `release.json` holds; see the fields' comments for units.

    `serializer` of a reward: `format` ("bert" | "roberta"), `max_length` (tokens), `token_type_ids` (bool),
    optional `vocab_size`. Of an embedding, besides: `dimension`, optional `prefix` (put before each text). Of a
    classifier, besides: `labels` (lower case, in the order of its probabilities). Of a policy: `max_input_tokens`,
    `max_context` (tokens), `chat_template` (bool), optional `seeded` (true when a request's seed decides its text,
    false when seeds are only accepted) and `end_tokens` (ids that end a text), `stop` (texts that do), `functions`
    (true when it can call functions).
    """

    schema_version: int = SCHEMA_VERSION
    kind: Kind
    id: str
    parent: str | None = None
    base_model: str
    architecture: str
    created_at: str  # RFC 3339
    code_version: str
    serializer: Mapping[str, Any]
    outputs: tuple[str, ...]
    calibration: Mapping[str, float] = field(default_factory=lambda: {"temperature": 1.0})
    threshold: float | None = None  # scores from here up pass; reward only
    batching: str = "ragged"  # or "bucketed"
    data_snapshot: str | None = None  # sha256 of the training snapshot
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Mapping[str, Any], ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # relative POSIX path -> sha256

    def __post_init__(self) -> None:
        _check(self)


def require_id(text: str) -> None:
    """Raises ReleaseError for a text that can't be a release's id."""
    if not _RULES["id"][0](text):
        raise ReleaseError(f"id must be {_RULES['id'][1]}, not {text!r}.")


def read(path: Path) -> Release:
    """The manifest of the release directory `path`. Raises ReleaseError; no file but release.json is looked
    at.
    """
    manifest = path / MANIFEST
    try:
        raw: object = json.loads(manifest.read_bytes())
    except FileNotFoundError:
        why = f"it has no {MANIFEST}" if path.is_dir() else "there is no such directory"
        raise ReleaseError(f"{path} is not a release: {why}.") from None
    except NotADirectoryError:
        raise ReleaseError(f"{path} is not a release: it is no directory.") from None
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{manifest} can't be read as JSON: {error}.") from None
    if not isinstance(raw, dict):
        raise ReleaseError(f"{manifest} must hold a JSON object.")
    return _from_object(manifest, cast("dict[str, Any]", raw))


def verify(path: Path, folder: str = "") -> Release:
    """The manifest of `path`, after each file it names was found inside the directory with the hash it states; with a
    `folder`, only those in it were hashed.

    Refuses missing, altered and linked files, and files below `1/` that the manifest does not name.
    """
    release = inspect(path)
    for name, expected in release.files.items():
        if name.startswith(f"{folder}/" if folder else "") and sha256(path / name) != expected:
            raise ReleaseError(altered(path / name))
    return release


def inspect(path: Path) -> Release:
    """The same without any hash: what is in the files is not known, however small they are."""
    release = read(path)
    if not release.files:
        raise ReleaseError(f"{path / MANIFEST} names no files, so nothing of the release can be trusted.")
    for name in release.files:
        _require_file(path, name)
    for name in _content_files(path):
        if name.startswith(f"{VERSION}/") and name not in release.files:
            raise ReleaseError(f"{path / name} is not named in the release's manifest: remove it.")
    return release


def altered(file: Path) -> str:
    """What is said of a file whose hash is another one."""
    return f"{file} was altered: its SHA-256 is not the manifest's."


def write(path: Path, release: Release) -> Release:
    """Hashes the files below `path`, writes release.json last and whole, and gives the release with its
    hashes.
    """
    complete = replace(release, files={name: sha256(path / name) for name in sorted(_content_files(path))})
    text = json.dumps(asdict(complete), indent=2, sort_keys=False, ensure_ascii=False, default=dict) + "\n"
    write_whole(path / MANIFEST, text.encode())
    return complete


def write_whole(path: Path, content: bytes) -> None:
    """Puts `content` at `path` so that readers see all of it or what was there before, also after a power
    cut.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_directory(path.parent)


def fsync_directory(path: Path) -> None:
    """Makes renames in the directory `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The file's SHA-256 in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_files(path: Path) -> Iterator[str]:
    for file in path.rglob("*"):
        name = file.relative_to(path).as_posix()
        if file.is_dir() and not file.is_symlink():
            continue
        if name != MANIFEST and name not in CODE_FILES and "__pycache__" not in file.parts and file.name[0] != ".":
            yield name


def _require_file(path: Path, name: str) -> None:
    root = path.resolve()
    file = root / name
    if Path(name).is_absolute() or ".." in Path(name).parts or file.resolve() != file:
        raise ReleaseError(f"The manifest of {path} names {name!r}, which leaves the release or is a link.")
    if not file.is_file():
        raise ReleaseError(f"{path / name} is missing: copy or export the release again.")


def _from_object(manifest: Path, raw: dict[str, Any]) -> Release:
    known = {each.name for each in fields(Release)}
    if unknown := sorted(raw.keys() - known):
        raise ReleaseError(f"{manifest} has keys that this version doesn't know: {', '.join(unknown)}.")
    try:
        values: Any = {name: tuple(value) if name in ("outputs", "variants") else value for name, value in raw.items()}
        return Release(**values)
    except TypeError as error:
        raise ReleaseError(f"{manifest} is not a complete manifest: {error}.") from None
    except ReleaseError as error:
        raise ReleaseError(f"{manifest}: {error}") from None


def _check(release: Release) -> None:
    for name, (valid, wanted) in _RULES.items():
        if not valid(getattr(release, name)):
            raise ReleaseError(f"{name} must be {wanted}, not {getattr(release, name)!r}.")
    required, optional = _SERIALIZER_KEYS[release.kind]
    keys = release.serializer.keys()
    if missing := sorted(required - keys):
        raise ReleaseError(f"serializer lacks {', '.join(missing)}.")
    if unknown := sorted(keys - required - optional):
        raise ReleaseError(f"serializer has keys that this version doesn't know: {', '.join(unknown)}.")
    outputs = _OUTPUTS.get(release.kind, release.outputs)
    if release.outputs != outputs:
        raise ReleaseError(f"outputs of a release of this kind must be {', '.join(outputs)}.")
    for name in sorted(keys & _SERIALIZER_RULES.keys()):
        valid, wanted = _SERIALIZER_RULES[name]
        if not valid(release.serializer[name]):
            raise ReleaseError(f"serializer.{name} must be {wanted}, not {release.serializer[name]!r}.")


def _optional_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _hashes(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(sha, str) and _SHA256.fullmatch(sha) is not None for sha in value.values()
    )


def _labels(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and all(_text(name) and name == name.lower() for name in value)
        and len(set(value)) == len(value) >= 1
    )


_RULES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "schema_version": (lambda value: value == SCHEMA_VERSION, f"{SCHEMA_VERSION}"),
    "kind": (lambda value: value in get_args(Kind), f"one of {', '.join(get_args(Kind))}"),
    "id": (
        lambda value: isinstance(value, str) and _ID.fullmatch(value) is not None,
        "a name like reward-000001",
    ),
    "parent": (_optional_text, "a release's id or null"),
    "base_model": (_text, "a name"),
    "architecture": (_text, "a name"),
    "created_at": (_text, "an RFC 3339 time"),
    "code_version": (_text, "a version"),
    "serializer": (lambda value: isinstance(value, Mapping), "an object"),
    "outputs": (lambda value: len(value) > 0 and all(map(_text, value)), "a list of tensor names"),
    "calibration": (
        lambda value: isinstance(value, Mapping) and _number(value.get("temperature")) and value["temperature"] > 0,
        "an object with a temperature above 0",
    ),
    "threshold": (lambda value: value is None or (_number(value) and 0 <= value <= 1), "null or from 0 to 1"),
    "batching": (lambda value: value in ("ragged", "bucketed"), "'ragged' or 'bucketed'"),
    "data_snapshot": (_optional_text, "a SHA-256 or null"),
    "metrics": (lambda value: isinstance(value, Mapping), "an object"),
    "parity": (lambda value: isinstance(value, Mapping), "an object"),
    "variants": (lambda value: all(isinstance(each, Mapping) for each in value), "a list of objects"),
    "files": (_hashes, "an object of path: SHA-256"),
}

_SERIALIZER_RULES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "dimension": (lambda value: type(value) is int and 1 <= value <= 16_384, "a whole number from 1 to 16384"),
    "prefix": (lambda value: isinstance(value, str), "a text"),
    "labels": (_labels, "a list of different names in lower case"),
}
