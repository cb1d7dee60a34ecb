"""YAML files as people write them: keys that are there twice are refused, and every place has a line."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""In C where there is one: ten times as fast."""


class _StrictLoader(_LOADER):
    """Safe YAML with text keys, each once in its mapping.

    Texts, lists and mappings are built here, in half the time of the library's generators; all else is left to it.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        return self._built(node)

    def _built(self, node: yaml.Node) -> Any:
        if node.tag == _TEXT and isinstance(node, yaml.ScalarNode):
            return node.value
        if node in self.constructed_objects:  # it has an anchor
            return self.constructed_objects[node]
        # Known before it is filled, since it may hold itself.
        if node.tag == _MAP and isinstance(node, yaml.MappingNode):
            mapping: dict[Hashable, Any] = {}
            self.constructed_objects[node] = mapping
            mapping |= self.construct_mapping(node)
            return mapping
        if node.tag == _SEQUENCE and isinstance(node, yaml.SequenceNode):
            items: list[Any] = []
            self.constructed_objects[node] = items
            items += [self._built(item) for item in node.value]
            return items
        return self.construct_object(node, deep=True)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: ARG002
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _KEY_TAGS:
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        self.flatten_mapping(node)
        return {key.value: self._built(value) for key, value in node.value}


_TEXT, _MAP, _SEQUENCE = (f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq"))
_KEY_TAGS = (_TEXT, "tag:yaml.org,2002:merge")


def parse(text: str) -> object:
    """The one document of a text.

    Raises:
        ValueError: it is no YAML, or a key is no text or there twice; says the line.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise ValueError(f"{where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def line_of(text: str, at: tuple[str | int, ...]) -> int | None:
    """The line (from 1) of a key or an item, or of the innermost one around it; None if there is none.

    Args:
        at: keys and positions, such as `("schema", 0, "properties", 2)`.
    """
    node = yaml.compose(text, Loader=_StrictLoader)
    line = None
    for step in at:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == step), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line
