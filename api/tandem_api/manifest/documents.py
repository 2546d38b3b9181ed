"""YAML documents that know where each of their values stands.

What kubectl would read otherwise is not taken: a key that is there twice (the parser would quietly keep the last), a
document so full of aliases that its values would not fit into memory. Dates stay text, as in JSON.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tandem_api.inference_service.rules import Location
from tandem_api.manifest.errors import Finding, Position

_MAX_VALUES: Final = 100_000
"""Of a document with its aliases written out."""
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
_START: Final = Position(1, 1)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - the library's attribute, which it declares as one of instances
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file."""

    data: Any
    """dicts, lists and scalars."""
    root: yaml.Node

    def position(self, location: Location, *, of_key: bool = False) -> Position:
        """Where a value (or, `of_key`, its field's name) stands; where there is none, what would hold it."""
        mark = self.root.start_mark
        node = self.root
        for index, part in enumerate(location):
            entry = _child(node, part)
            if entry is None:
                break
            key, node = entry
            mark = (key if of_key and index == len(location) - 1 else node).start_mark
        return _position(mark)


def read_documents(text: str | bytes) -> tuple[list[Document], list[Finding]]:
    """The documents of a file, and what is wrong with it as YAML. Empty documents are left out."""
    documents: list[Document] = []
    findings: list[Finding] = []
    try:
        loader = _Loader(text)
        while loader.check_node():
            if (root := loader.get_node()) is None:
                continue
            if _size(root, {}) > _MAX_VALUES:
                says = f"holds more than {_MAX_VALUES:,} values once its aliases are written out"
                findings.append(Finding(_position(root.start_mark), (), says))
                continue
            findings += _duplicates(root, ())
            if (data := loader.construct_document(root)) is not None:
                json.dumps(data)
                documents.append(Document(data, root))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        says = ", ".join(part for part in (error.context, error.problem) if part)
        findings.append(Finding(_position(mark) if mark else _START, (), f"is not YAML: {says}"))
    except yaml.YAMLError as error:
        findings.append(Finding(_START, (), f"is not YAML: {' '.join(str(error).split())}"))
    except TypeError as error:  # !!binary and !!set, and keys that are lists
        findings.append(Finding(_START, (), f"holds what JSON can't say: {error}"))
    except RecursionError:
        findings.append(Finding(_START, (), "is nested too deeply to be a manifest"))
    return documents, findings


def _duplicates(node: yaml.Node, location: Location) -> Iterator[Finding]:
    if isinstance(node, yaml.MappingNode):
        first: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in first and key.value != "<<":
                line = first[key.value].start_mark.line + 1
                yield Finding(
                    _position(key.start_mark), (*location, key.value), f"is there already, in line {line}: remove one"
                )
            first.setdefault(key.value, key)
            yield from _duplicates(value, (*location, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, (*location, index))


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Values below a node, aliases written out. A node that holds itself counts as too many."""
    if id(node) not in known:
        known[id(node)] = _MAX_VALUES + 1
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [child for entry in node.value for child in entry]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]


def _child(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _position(mark: yaml.Mark) -> Position:
    return Position(mark.line + 1, mark.column + 1)
