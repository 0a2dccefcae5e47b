"""Whether a new version of an Avro schema only adds to the one before it."""

from __future__ import annotations

from typing import Any


def breaks(old: Any, new: Any, path: str = "") -> list[str]:
    """Return what a reader of `new` could not do with bytes of `old`, or a reader of `old` with bytes of `new`.

    Allowed: new fields with a default at the end of a record, other docs. Everything else is one sentence each.
    """
    return _Comparison(_named(old), _named(new)).differences(old, new, path or "root")


class _Comparison:
    def __init__(self, old_names: dict[str, Any], new_names: dict[str, Any]) -> None:
        self._old_names, self._new_names = old_names, new_names
        self._seen: set[str] = set()

    def differences(self, old: Any, new: Any, path: str) -> list[str]:
        if isinstance(old, list) != isinstance(new, list):
            return [f"{path}: optional became required, or the other way round"]
        if isinstance(old, list):
            if len(old) != len(new):
                return [f"{path}: the union has other branches"]
            pairs = zip(old, new, strict=True)
            return [found for one, two in pairs for found in self.differences(one, two, path)]
        old_type, new_type = _resolved(old, self._old_names), _resolved(new, self._new_names)
        if _kind(old_type) != _kind(new_type):
            return [f"{path}: {_kind(old_type)} became {_kind(new_type)}"]
        match _kind(old_type):
            case "array":
                return self.differences(old_type["items"], new_type["items"], f"{path}[]")
            case "record":
                return self._record(old_type, new_type, path)
            case _:
                return []

    def _record(self, old: Any, new: Any, path: str) -> list[str]:
        if (old["name"], old.get("namespace")) != (new["name"], new.get("namespace")):
            return [f"{path}: the record was renamed"]
        if old["name"] in self._seen:
            return []
        self._seen.add(old["name"])
        found = []
        old_fields, new_fields = old["fields"], new["fields"]
        for place, field in enumerate(old_fields):
            if place >= len(new_fields) or new_fields[place]["name"] != field["name"]:
                found.append(f"{path}.{field['name']}: removed, renamed or moved")
                continue
            found += self.differences(field["type"], new_fields[place]["type"], f"{path}.{field['name']}")
            if field.get("default", _NONE) != new_fields[place].get("default", _NONE):
                found.append(f"{path}.{field['name']}: another default")
        if not found:
            added = new_fields[len(old_fields) :]
            found += [f"{path}.{field['name']}: added without a default" for field in added if "default" not in field]
        return found


_NONE = object()


def _kind(node: Any) -> str:
    return str(node["type"]) if isinstance(node, dict) else str(node)


def _resolved(node: Any, names: dict[str, Any]) -> Any:
    return names.get(node, node) if isinstance(node, str) else node


def _named(node: Any) -> dict[str, Any]:
    """Return every record defined below `node` by its short and its full name."""
    found: dict[str, Any] = {}
    if isinstance(node, list):
        for child in node:
            found |= _named(child)
    elif isinstance(node, dict):
        if node.get("type") == "record":
            found[node["name"]] = node
            found[f"{node.get('namespace')}.{node['name']}"] = node
            for field in node["fields"]:
                found |= _named(field["type"])
        else:
            for key in ("items", "type"):
                if isinstance(node.get(key), (dict, list)):
                    found |= _named(node[key])
    return found


def shape(schema: Any) -> tuple[str, ...]:
    """Return one line for each field of a schema, `path type`, in their order; `?` marks an optional one.

    What a reader of bytes or a column of a table depends on, and no more: docs are left out.
    """
    names = _named(schema)
    lines: list[str] = []

    def walk(node: Any, path: str, mark: str) -> None:
        if isinstance(node, list):
            walk(next(branch for branch in node if branch != "null"), path, "?")
            return
        node = _resolved(node, names)
        match _kind(node):
            case "record":
                if path:
                    lines.append(f"{path} {node['name']}{mark}")
                for field in node["fields"]:
                    walk(field["type"], f"{path}.{field['name']}" if path else field["name"], "")
            case "array":
                walk(node["items"], f"{path}[]", mark)
            case kind:
                logical = node.get("logicalType") if isinstance(node, dict) else None
                lines.append(f"{path} {logical or kind}{mark}")

    walk(schema, "", "")
    return tuple(lines)


def edited(released: tuple[str, ...], found: tuple[str, ...]) -> list[str]:
    """Return what differs between the shape that was released and the one in the file, a sentence for each field."""
    before, now = (dict(line.split(" ", 1) for line in lines) for lines in (released, found))
    told = [f"{path}: removed or renamed" for path in before if path not in now]
    told += [f"{path}: {kind} became {now[path]}" for path, kind in before.items() if now.get(path, kind) != kind]
    told += [f"{path}: added" for path in now if path not in before]
    if not told and released != found:
        told = [f"{one.split(' ')[0]}: moved" for one, two in zip(released, found, strict=True) if one != two]
    return told
