"""Models of the Hub's answers: every field that is used, as pydantic models.

All answers are parsed in this module only.

A commit is 40 hexadecimal digits, an object 64, a path is relative and without ``..``; texts have a length and no lone
surrogates. Anything else ends the listing with an error that shows it (``hub-bad-answer``). Fields that no model names
are not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urljoin, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from trajsvc.errors import DamagedCheckpoint
from trajsvc.sources.hub.limits import HubLimits
from trajsvc.sources.transport.url import Url

M = TypeVar("M", bound="HubModel")

LONGEST_NAME: Final = 255
LONGEST_PATH: Final = 1024
LONGEST_TITLE: Final = 16_384
LONGEST_ADDRESS: Final = 8192
MOST_BYTES: Final = 2**63 - 1
_SHOWN: Final = 80
# Brackets, and strings as a whole (the last may lack its end). Possessive, so that it is linear in any input.
_TOKENS: Final = re.compile(rb'[][{}]|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_REF: Final = re.compile(r"\.\.|//|\\|^[/-]|/$|[~^:?*\[]")
_DATE: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,24}(?:Z|[+-][0-9:]{4,5})$"
_REPOSITORY: Final = r"^(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/)?[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$"


def _encodable(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("it has half a character (a lone surrogate)") from None
    return text


def _ref_name(text: str) -> str:
    if _CONTROL.search(text) or _REF.search(text):
        raise ValueError("git has no branch or tag of such a name")
    return text


def _relative(path: str) -> str:
    if "\0" in path or "\\" in path:
        raise ValueError("it has a NUL or a backslash")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("it is no relative path within the repository")
    return path


def _no_dots(repository: str) -> str:
    if ".." in repository:
        raise ValueError("no repository has two dots in a row")
    return repository


def _digits(text: object) -> object:
    """Parse a header's number."""
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,19}", text):
        raise ValueError("it is no number of bytes")
    return int(text)


def _tag(text: object) -> object:
    """Return an entity tag without its quotes, in lower case."""
    return text.removeprefix("W/").strip('"').lower() if isinstance(text, str) else text


def _lower(text: object) -> object:
    return text.lower() if isinstance(text, str) else text


def _address(text: str) -> str:
    if _CONTROL.search(text) or " " in text or "\\" in text:
        raise ValueError("it is no address")
    return text


Commit = Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
Blob = Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
RefName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_encodable), AfterValidator(_ref_name)]  # fmt: skip
FilePath = Annotated[str, Field(min_length=1, max_length=LONGEST_PATH), AfterValidator(_encodable), AfterValidator(_relative)]  # fmt: skip
Bytes = Annotated[int, Field(ge=0, le=MOST_BYTES)]


class HubModel(BaseModel):
    """Base of all models of the Hub's answers."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class RefRow(HubModel):
    """A branch or a tag."""

    name: RefName
    commit: Commit = Field(alias="targetCommit")


class Refs(HubModel):
    """``/api/models/…/refs``. The rows are checked one by one."""

    branches: list[Any]
    tags: list[Any]


class LargeFile(HubModel):
    """A listing's description of contents to which git holds a pointer."""

    oid: Sha256


class FileRow(HubModel):
    """A file of a commit."""

    type: Literal["file"]
    path: FilePath
    size: Bytes
    oid: Blob
    lfs: LargeFile | None = None


class OtherRow(HubModel):
    """A row that is not a file: a folder."""

    type: Annotated[str, Field(pattern="^[a-z]{1,32}$")]


class CommitRow(HubModel):
    """A commit of a branch's history."""

    id: Commit
    title: Annotated[str, Field(max_length=LONGEST_TITLE), AfterValidator(_encodable)]
    date: Annotated[str, Field(max_length=40, pattern=_DATE)]


class RepositoryRow(HubModel):
    """A model of an author."""

    id: Annotated[str, Field(pattern=_REPOSITORY), AfterValidator(_no_dots)]


class FileHeaders(HubModel):
    """The headers of the Hub's own answer about a file."""

    commit: Annotated[Commit, BeforeValidator(_lower)] | None = Field(None, alias="x-repo-commit")
    size: Annotated[Bytes, BeforeValidator(_digits)] | None = Field(None, alias="x-linked-size")
    linked_etag: Annotated[str, BeforeValidator(_tag), Field(pattern="^(?:[0-9a-f]{64}|[0-9a-f]{40})$")] | None = Field(
        None, alias="x-linked-etag"
    )
    etag: Annotated[str, BeforeValidator(_tag), Field(max_length=512)] | None = None
    """compared where it is a SHA-256; what stands between may make another one of it"""


class Link(HubModel):
    """The address of the next page of a listing, or of a moved one."""

    url: Annotated[str, Field(min_length=1, max_length=LONGEST_ADDRESS), AfterValidator(_address)]


def bad_answer(where: str, what: str) -> DamagedCheckpoint:
    """Return the error for an answer that is not valid (``hub-bad-answer``)."""
    return DamagedCheckpoint(
        "hub-bad-answer", f"{where}: the Hub's answer is not to be trusted: {what}",
        hint="Check HF_ENDPOINT and the proxy: nothing was written. If it is the Hub itself, tell its operators.",
    )  # fmt: skip


def read(model: type[M], value: object, where: str) -> M:
    """Validate ``value`` as ``model``. Raises DamagedCheckpoint (``hub-bad-answer``) naming the field and its value."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the row"
    raise bad_answer(where, f"{field} is {shown(first['input'])}: {first['msg'].removeprefix('Value error, ')}")


def read_json(body: bytes, limits: HubLimits, where: str) -> Any:
    """Parse ``body`` as JSON within the bounds of depth and number of values.

    Raises LimitExceeded (``hub-limit``), and ValueError if it is not JSON.
    """
    values = body.count(b",") + body.count(b"[") + body.count(b"{")
    if values > limits.values:
        limits.exceeded("values", where, f"{values:,} values in one page")
    depth = 0
    for match in _TOKENS.finditer(body):
        depth += 1 if match[0] in (b"[", b"{") else -1 if match[0] in (b"]", b"}") else 0
        if depth > limits.depth:
            limits.exceeded("depth", where, f"{depth} brackets within each other")
    return json.loads(body, parse_constant=_no_constant)


def rows_of(page: object, where: str) -> list[Any]:
    """Return the rows of one page."""
    if not isinstance(page, list):
        raise bad_answer(where, f"a list is expected, and it is {shown(page)}")
    return page


def files_of(page: list[Any], where: str) -> Iterator[FileRow]:
    """Yield the files among the rows of a tree."""
    for row in page:
        if read(OtherRow, row, where).type == "file":
            yield read(FileRow, row, where)


def next_query(link: str | None, asked: str, endpoint: str, where: str) -> str | None:
    """Return the query of the next page, if any.

    Raises DamagedCheckpoint if ``link`` leads to another host or back to ``asked``.
    """
    if link is None:
        return None
    said = read(Link, {"url": link}, where).url
    try:
        text = urljoin(asked, said)
        there, here, home = Url.parse(text), Url.parse(asked), Url.parse(endpoint)
    except ValueError:
        raise bad_answer(where, f"its next page is {shown(link)}, which is no address") from None
    if there.origin not in (here.origin, home.origin):
        raise bad_answer(where, f"its next page is at another host, {shown(there.origin.authority)}")
    if there == here:
        raise bad_answer(where, "its next page is itself")
    return urlsplit(text).query


def file_headers(headers: Mapping[str, str], where: str) -> FileHeaders:
    """Parse the headers of an answer about a file. Raises DamagedCheckpoint (``hub-bad-answer``)."""
    lower = {name.lower(): value for name, value in headers.items()}
    return read(FileHeaders, {name: value for name, value in lower.items() if value}, where)


def shown(value: object) -> str:
    """Return a few characters of a value, escaped so that a terminal does not interpret them."""
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = (
        ascii(value[: 2 * _SHOWN] if isinstance(value, str) else value)
        if not isinstance(value, int)
        else _number(value)
    )
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _number(value: int) -> str:
    return str(value) if abs(value) < 10**_SHOWN else f"a number of {value.bit_length()} bits"


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
