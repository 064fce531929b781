"""Reading the configuration's documents: what allocators and cost groups, and its CSV files, have in common.

This module has the base of the document models, a strict JSON reader, problems that name file and path, and the
loading of a folder. What a particular document may contain belongs in its own module (`allocator`, `cost_group`).
"""

import hashlib
import json
import math
import re
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, cast, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import quoted_json, reason

MAX_BYTES = 1_000_000
MAX_DEPTH = 20

Location = tuple[str | int, ...]

# An id is a file name: anything a person may call a file, but never a path to another folder.
_ID = re.compile(r"(?![.\s])[^\x00-\x1f\x7f/\\]{1,100}(?<!\s)")
_PLAIN_KEY = re.compile(r"\w{1,80}")
# Longer integers fit no field, and Python refuses to read those of more than 4300 digits.
_MAX_DIGITS = 18


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in one file.

    Attributes:
        file: the file's name as the user knows it.
        path: where in the file: a JSON path such as ``criteria[0].and.account``, or a line; empty for the whole file.
        message: what is wrong and what is allowed.
    """

    file: str
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.path, self.message) if part)


class DocumentError(OctoError):
    """A file that cannot be used, with every problem in it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)), code="document-wrong", place=problems[0].file)
        self.problems = tuple(problems)


def not_text(value: object) -> str:
    """The message for a value that is not text where text is expected."""
    hint = "; an id written as a number loses its leading zeros" if isinstance(value, int | float) else ""
    return f"must be text in double quotes, not {quoted_json(value)}{hint}"


def canonical_json(value: object) -> str:
    """The canonical JSON text of a value: sorted keys, no spaces, no escaped characters."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_path(location: Location) -> str:
    """The location as text for people: ``criteria[0].and["cost center"]``."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            path += f".{part}"
        else:
            path += f"[{quoted_json(part)}]"
    return path.removeprefix(".")


def refuse(flaws: Iterable[tuple[Location, str]]) -> NoReturn:
    """Report several flaws of one field at once from its validator.

    Args:
        flaws: the location in the field, and what is wrong there.

    Raises:
        ValidationError: always.
    """
    raise ValidationError.from_exception_data(
        "document",
        [
            # The message is a value of the template, so that braces in it are kept.
            InitErrorDetails(type=PydanticCustomError("flaw", "{text}", {"text": text}), loc=location, input=None)
            for location, text in flaws
        ],
    )


class Section(BaseModel):
    """An object in a document. An empty string or null counts as not set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_unset(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        known = _aliases(cls)
        return {k: v for k, v in value.items() if k not in known or not (v is None or v == "")}


def is_id(text: str) -> bool:
    """Whether the text can be the id of a document."""
    return _ID.fullmatch(text) is not None


def _check_id(text: str) -> str:
    if not is_id(text):
        raise ValueError(
            f"{quoted_json(text)} is not a valid id; use 1 to 100 characters without '/' and '\\', the first no dot and no space "
            "(without an id, the file's name is the id)"
        )
    return text


class Document(Section):
    """A whole document: the content of one file."""

    id: Annotated[str, AfterValidator(_check_id)]
    name: str = Field(default="", description="text")
    description: str = Field(default="", description="text")

    @abstractmethod
    def normalised(self) -> dict[str, object]:
        """The document as JSON values; documents with the same meaning have the same values."""

    @cached_property
    def document(self) -> str:
        """The canonical JSON of the normalised document."""
        return canonical_json(self.normalised())

    @cached_property
    def version(self) -> str:
        """The first 32 hexadecimal digits of the SHA-256 of `document`."""
        return hashlib.sha256(self.document.encode()).hexdigest()[:32]

    def __hash__(self) -> int:
        return hash(self.document)


D = TypeVar("D", bound=Document)
_MOST_PARSED = 2_000


def parse_document(model: type[D], text: str | bytes, *, file: str) -> D:
    """Read one document.

    Args:
        model: the document's model.
        text: the file's content; bytes are UTF-8.
        file: the file's name, for messages; its stem is the id of a document without one.

    Raises:
        DocumentError: with every problem in the file.
    """
    return parse_object(model, read_object(text, file=file), file=file)


def parse_object(model: type[D], written: dict[str, Any], *, file: str) -> D:
    """Read one document whose JSON is already parsed.

    Args:
        model: the document's model.
        written: the result of `read_object`.
        file: the file's name, for messages; its stem is the id of a document without one.

    Raises:
        DocumentError: with every problem in the file.
    """
    flaws: list[tuple[Location, str]] = []
    value = cast(dict[str, Any], _clean(written, (), flaws))
    flaws = list(dict.fromkeys(flaws))
    if is_unset(value, "id"):
        value["id"] = Path(file).stem
    document = None
    try:
        document = model.model_validate(value)
    except ValidationError as error:
        # A field whose value could not even be read needs no second message.
        reported = {location for location, message in flaws if message != _REPEATED}
        model_flaws = [_flaw(model, e) for e in error.errors(include_url=False)]
        flaws += [(location, message) for location, message in model_flaws if location not in reported]
    if document is None or flaws:
        raise DocumentError([Problem(file, json_path(location), message) for location, message in flaws])
    return document


def load_documents(
    model: type[D], folder: Path, check: Callable[[D, str], Sequence[Problem]] = lambda _document, _file: ()
) -> tuple[list[D], tuple[Problem, ...]]:
    """Read every JSON file of a folder; a bad one is left out and does not stop the others.

    Files that share an id are all left out, so that the result does not depend on the order of files. A folder that
    is missing from a configuration has no documents.

    Args:
        model: the documents' model.
        folder: the folder.
        check: what is wrong with a valid document, given its file, beside the rest of the configuration.

    Returns:
        The valid documents in the order of their file names, and all problems of all files.

    Raises:
        OctoError: the folder cannot be read, or the configuration folder that would hold it does not exist.
    """
    loaded: dict[str, D] = {}
    problems: list[Problem] = []
    for path in _json_files(folder):
        # A name that is not UTF-8 cannot be printed as it is.
        file = f"{folder.name}/{path.name}".encode("utf-8", "backslashreplace").decode()
        try:
            document = _parsed(model, _read_bytes(path, file), file)
            if more_problems := check(document, file):
                raise DocumentError(more_problems)
            loaded[file] = document
        except DocumentError as error:
            problems += error.problems
    repeated = _repeated_ids(loaded)
    problems += repeated
    left_out = {problem.file for problem in repeated}
    documents = [document for file, document in loaded.items() if file not in left_out]
    return documents, tuple(sorted(problems, key=lambda problem: problem.file))


@lru_cache(maxsize=_MOST_PARSED)
def _parsed(model: type[D], content: bytes, file: str) -> D:
    """As `parse_document`, once for the same content: a server reads the same documents for every request."""
    return parse_document(model, content, file=file)


def _json_files(folder: Path) -> list[Path]:
    try:
        # Editors and file managers write files whose names begin with a dot.
        return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".json" and not p.name.startswith("."))
    except FileNotFoundError as error:
        # A configuration with sources only has no folder of rules; a missing configuration folder is a mistake.
        if folder.parent.is_dir():
            return []
        raise OctoError(
            f"The configuration folder {folder.parent} does not exist. Create it.",
            code="configuration-missing",
            place=str(folder.parent),
            remedy=Remedy("set", setting="config", to="the configuration folder, if it is elsewhere"),
        ) from error
    except OSError as error:
        raise OctoError(
            f"The folder {folder} cannot be read ({reason(error)}). Create it.",
            code="configuration-folder-unreadable",
            place=str(folder),
            remedy=Remedy("set", setting="config", to="the folder that holds it, if it is elsewhere"),
        ) from error


def _read_bytes(path: Path, file: str) -> bytes:
    try:
        with path.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise DocumentError([Problem(file, "", f"cannot be read ({reason(error)})")]) from error


def _repeated_ids(loaded: dict[str, D]) -> list[Problem]:
    files = defaultdict(list)
    for file, document in loaded.items():
        files[document.id].append(file)
    return [
        Problem(
            file,
            "id",
            f"{quoted_json(name)} is also the id in {others}; all of them are left out until each has its own",
        )
        for name, sharing in files.items()
        for file in sharing
        if (others := ", ".join(other for other in sharing if other != file))
    ]


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys occurred more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]


def is_unset(section: Mapping[str, Any], key: str) -> bool:
    """Whether the object leaves the key out or has an empty string or null there, which means the same."""
    return section.get(key) in (None, "")


def read_table(path: Path) -> str | None:
    """The text of a CSV of the configuration; None if there is none.

    Raises:
        DocumentError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise DocumentError(
            [Problem(path.name, "", f"is not UTF-8 text ({error.reason}); save it as UTF-8")]
        ) from error
    except OSError as error:
        raise DocumentError([Problem(path.name, "", f"cannot be read ({reason(error)})")]) from error


def read_object(text: str | bytes, *, file: str) -> dict[str, Any]:
    """Read JSON text whose root is an object. `parse_object` reports what is wrong inside it.

    Raises:
        DocumentError: the text is not JSON, or not one object.
    """
    try:
        value = json.loads(
            _decode(text),
            object_pairs_hook=_Object,
            parse_int=_integer,
            parse_float=float,
            parse_constant=float,
        )
    except json.JSONDecodeError as error:
        position = f"line {error.lineno}, column {error.colno}"
        message = _likely_mistake(error.doc, error.pos) or f"is not valid JSON here: {error.msg}"
        raise DocumentError([Problem(file, position, message)]) from error
    except RecursionError:
        raise DocumentError([Problem(file, "", TOO_DEEP)]) from None
    except ValueError as error:
        raise DocumentError([Problem(file, "", str(error))]) from error
    if not isinstance(value, _Object):
        raise DocumentError([Problem(file, "", "must be one JSON object { … } and nothing else")])
    return value


def _likely_mistake(text: str, position: int) -> str:
    """What people mean where Python's reader only says what it expects; empty if nothing is likely.

    Args:
        text: the document.
        position: where the reader stopped.
    """
    before, rest = text[:position].rstrip(), text[position:].lstrip()
    if before.endswith(",") and rest[:1] in ("}", "]"):
        return f"has a comma before the {rest[0]!r}; remove the comma"
    if rest.startswith(":") and text.lstrip().startswith('"'):
        return "must be one JSON object; write { before the first key and } after the last value"
    return ""


_REPEATED = "is given more than once; keep one"
HALF_OF_A_PAIR = "has half of a surrogate pair (\\ud800 to \\udfff), which is not a character; remove it"
TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep; no document needs that"


def _decode(text: str | bytes) -> str:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES:,} bytes; split it into several documents")
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def _clean(value: object, location: Location, flaws: list[tuple[Location, str]]) -> object:
    """Replace what no field can hold with null, and report where it was."""
    if len(location) > MAX_DEPTH:
        flaws.append((location[:1], TOO_DEEP))
        return None
    if isinstance(value, _Object):
        flaws.extend(((*location, key), _REPEATED) for key in value.repeated)
        unreadable = {key: flaw for key in value if (flaw := _text_flaw(key))}
        flaws.extend(((*location, key), flaw) for key, flaw in unreadable.items())
        return {k: _clean(v, (*location, k), flaws) for k, v in value.items() if k not in unreadable}
    if isinstance(value, list):
        return [_clean(item, (*location, i), flaws) for i, item in enumerate(value)]
    flaw = _text_flaw(value) if isinstance(value, str) else _number_flaw(value)
    if flaw:
        flaws.append((location, flaw))
        return None
    return value


def _number_flaw(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number of at most {_MAX_DIGITS} digits"
    return ""


def _text_flaw(text: str) -> str:
    if "\0" in text:
        return "has a NUL character; remove it"
    try:
        text.encode()
    except UnicodeEncodeError:
        return HALF_OF_A_PAIR
    return ""


def _flaw(model: type[Section], error: ErrorDetails) -> tuple[Location, str]:
    """The location and message of a pydantic error, in the document's own terms."""
    location: list[str | int] = []
    section: type[Section] | None = model
    holder = section
    for part in error["loc"]:
        holder = section
        if isinstance(part, str) and section is not None:
            # Errors in defaults carry the field's name, other errors its alias.
            name, section = _field(section, part)
            location.append(name)
        else:
            location.append(part)
    if error["type"] == "extra_forbidden":
        location[-1] = error["loc"][-1]  # an unknown key may equal the Python name of a field
    return tuple(location), _message(error, holder, location)


def _field(section: type[Section], part: str) -> tuple[str, type[Section] | None]:
    for name, field in section.model_fields.items():
        if part in (name, field.alias):
            return field.alias or name, _section_in(field.annotation)
    return part, None


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)


def _message(error: ErrorDetails, holder: type[Section] | None, location: Sequence[str | int]) -> str:
    kind, value = error["type"], quoted_json(error["input"])
    if kind == "extra_forbidden" and holder is not None:
        return f"unknown key; allowed: {', '.join(_aliases(holder))}"
    if kind == "missing" and holder is not None:
        field = next(f for name, f in holder.model_fields.items() if location[-1] == (f.alias or name))
        return f"is missing; it must be {field.description}"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "literal_error":
        return f"{value} is unknown; allowed: {error['ctx']['expected']}"
    if kind == "string_type":
        return not_text(error["input"])
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"must be an object {{ … }}, not {value}"
    if kind in ("tuple_type", "list_type"):
        return f"must be a list [ … ], not {value}"
    return error["msg"]


def _aliases(section: type[Section]) -> list[str]:
    return [field.alias or name for name, field in section.model_fields.items()]
