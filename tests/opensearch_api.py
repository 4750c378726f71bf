"""The published API specification of OpenSearch (Apache-2.0), made strict: what it does not name is refused.

It lies beside the checkout where there is one; it is no part of this project. Unknown fields of a body pass by the
specification itself, so that a misspelt one would go unnoticed: `unevaluatedProperties: false` closes every object
whose fields are listed.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

PLACE = Path(__file__).resolve().parents[2] / "shared" / "opensearch-api" / "spec"
ABSENT = "the OpenSearch API specification does not lie beside the checkout (shared/opensearch-api)"
_NAMESPACES = ("_core", "indices")
_ERROR = "schemas/_common.yaml#/components/schemas/ErrorResponseBase"
_LISTS = {"properties", "additionalProperties", "patternProperties", "propertyNames"}


class Specification:
    """Finds what is wrong with a request or an answer."""

    def __init__(self, place: Path = PLACE) -> None:
        self._root = place.as_uri() + "/"
        self._paths = {name: _read(f"{self._root}namespaces/{name}.yaml")["paths"] for name in _NAMESPACES}
        self._shared_parameters = _read(f"{self._root}_global_parameters.yaml")["components"]["parameters"]

    def request(self, method: str, path: str, query: Mapping[str, str], body: object | None) -> list[str]:
        """What is wrong with a request; `body` None: it has none."""
        found = self._operation(method, path)
        if found is None:
            return [f"there is no {method} {path}"]
        base, operation = found
        declared = {each["name"]: each for each in self._parameters(base, operation)}
        wrong = [f"?{name} is not a parameter of {method} {path}" for name in query if name not in declared]
        for name in query.keys() & declared.keys():
            wrong += self._value(f"?{name}", query[name], base, declared[name]["schema"])
        expected = operation.get("requestBody")
        if expected is None:
            return wrong + ([f"{method} {path} takes no body"] if body is not None else [])
        if body is None:
            return wrong
        _, pointer = self._follow(base, expected)
        return wrong + self._schema(f"{pointer}/content/application~1json/schema", body)

    def answer(self, method: str, path: str, status: int, body: object) -> list[str]:
        """What is wrong with an answer. Errors that an operation does not declare have the common form of errors."""
        found = self._operation(method, path)
        assert found is not None
        base, operation = found
        declared = operation["responses"].get(str(status))
        is_error = isinstance(body, dict) and "error" in body
        if declared is None or is_error:
            return self._schema(self._root + _ERROR, body)
        response, pointer = self._follow(base, declared)
        if "schema" not in response.get("content", {}).get("application/json", {}):  # an answer to HEAD
            return []
        return self._schema(f"{pointer}/content/application~1json/schema", body)

    def _operation(self, method: str, path: str) -> tuple[str, Any] | None:
        """The operation whose path has the most fixed parts, and the document that it is in."""
        asked = path.strip("/").split("/")
        best: tuple[int, str, Any] | None = None
        for name, paths in self._paths.items():
            for template, operations in paths.items():
                parts = template.strip("/").split("/")
                fixed = [not part.startswith("{") for part in parts]
                fits = len(parts) == len(asked) and all(
                    part == given if is_fixed else not given.startswith("_")
                    for part, given, is_fixed in zip(parts, asked, fixed, strict=True)
                )
                if fits and method.lower() in operations and (best is None or sum(fixed) > best[0]):
                    best = sum(fixed), f"{self._root}namespaces/{name}.yaml", operations[method.lower()]
        return best and best[1:]

    def _parameters(self, base: str, operation: Any) -> Iterator[Any]:
        yield from self._shared_parameters.values()
        for each in operation.get("parameters", ()):
            found, _ = self._follow(base, each)
            if found["in"] == "query":
                yield found

    def _follow(self, base: str, node: Any) -> tuple[Any, str]:
        """What a reference stands for, and its address."""
        address = urljoin(base, node["$ref"])
        return _resolve(address), address

    def _value(self, name: str, text: str, base: str, schema: Any) -> list[str]:
        """A parameter is text; it may stand for a number or a truth value."""
        values: list[Any] = [text]
        if text in {"true", "false"} or text.lstrip("-").isdigit():
            values.append(json.loads(text))
        found = [self._problems(_based(schema, base), value) for value in values]
        return [] if any(not each for each in found) else [f"{name}={text}: {each}" for each in found[-1]]

    def _schema(self, address: str, value: object) -> list[str]:
        return self._problems(
            {"$ref": address, "unevaluatedProperties": False} if _closes(address) else {"$ref": address}, value
        )

    @staticmethod
    def _problems(schema: Any, value: object) -> list[str]:
        return _problems(json.dumps(schema), json.dumps(value))


@cache
def specification() -> Specification:
    """The one that lies beside the checkout."""
    return Specification()


@cache
def _read(uri: str) -> Any:
    path = Path(unquote(uri.removeprefix("file://")))
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def _resolve(address: str) -> Any:
    uri, pointer = urldefrag(address)
    node = _read(uri)
    for part in pointer.strip("/").split("/"):
        node = node[unquote(part).replace("~1", "/").replace("~0", "~")]
    return node


@cache
def _resource(uri: str) -> Resource[Any]:
    return Resource.from_contents(_closed(_read(uri), uri), default_specification=DRAFT202012)


_REGISTRY: Registry[Any] = Registry(retrieve=_resource)


@lru_cache(maxsize=1024)
def _problems(schema: str, value: str) -> list[str]:
    """What breaks a schema, both as JSON: the same bodies come again and again, and some take long to check."""
    validator = Draft202012Validator(json.loads(schema), registry=_REGISTRY)
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(json.loads(value))]


def _based(node: Any, base: str) -> Any:
    """The schema with absolute references."""
    if isinstance(node, dict):
        return {k: urljoin(base, v) if k == "$ref" else _based(v, base) for k, v in node.items()}
    return [_based(each, base) for each in node] if isinstance(node, list) else node


def _closed(node: Any, base: str) -> Any:
    """The document with every listing of fields closed where it is used. Parts of `allOf` stay open: each knows some of
    the fields only."""
    if isinstance(node, list):
        return [_closed(each, base) for each in node]
    if not isinstance(node, dict):
        return node
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key in {"properties", "patternProperties"} and isinstance(value, dict):
            result[key] = {name: _use(each, base) for name, each in value.items()}
        elif key in {"items", "additionalProperties"} and isinstance(value, dict):
            result[key] = _use(value, base)
        elif key == "allOf":
            result[key] = [_part(each, value, base) for each in value]
        else:
            result[key] = _closed(value, base)
    return result


def _part(part: Any, parts: list[Any], base: str) -> Any:
    """A part of `allOf`, closed but for fields that another part lists, too: either one may know a half of it."""
    closed = _closed(part, base)
    if not isinstance(part, dict) or "properties" not in part:
        return closed
    others = {name for other in parts if other is not part for name in _fields(other, base)}
    return {**closed, "properties": closed["properties"] | {k: v for k, v in part["properties"].items() if k in others}}


def _fields(schema: Any, base: str) -> set[str]:
    if "$ref" in schema:
        address = urljoin(base, schema["$ref"])
        return _fields(_resolve(address), urldefrag(address)[0])
    return set(schema.get("properties", ())).union(*(_fields(each, base) for each in schema.get("allOf", ())))


def _use(schema: Any, base: str) -> Any:
    closed = _closed(schema, base)
    if isinstance(closed, dict) and _lists(schema, base, frozenset()):
        return {**closed, "unevaluatedProperties": False}
    return closed


def _closes(address: str) -> bool:
    return _lists({"$ref": address}, address, frozenset())


def _lists(schema: Any, base: str, seen: frozenset[str]) -> bool:
    """Whether the schema says which fields there are: a bare `type: object` is any object."""
    if not isinstance(schema, dict):
        return False
    if schema.keys() & _LISTS:
        return True
    if "$ref" in schema:
        address = urljoin(base, schema["$ref"])
        if address in seen:
            return False
        return _lists(_resolve(address), urldefrag(address)[0], seen | {address})
    return any(_lists(each, base, seen) for key in ("allOf", "oneOf", "anyOf") for each in schema.get(key, ()))
