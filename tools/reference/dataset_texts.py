"""What the dataset scripts share: the texts that a path leads to in a pyarrow column, said once in plain
Python, and the list of all such paths. Versions: pyarrow 26.0.1, datasets 5.2.0.
"""

import pyarrow as pa


def storage(type_):
    while isinstance(type_, pa.BaseExtensionType):
        type_ = type_.storage_type
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def is_list(type_):
    t = pa.types
    return (t.is_list(type_) or t.is_large_list(type_) or t.is_fixed_size_list(type_) or t.is_map(type_)
            or t.is_list_view(type_) or t.is_large_list_view(type_))


def is_text(type_):
    t = pa.types
    return (t.is_string(type_) or t.is_large_string(type_) or t.is_string_view(type_) or t.is_binary(type_)
            or t.is_large_binary(type_) or t.is_binary_view(type_))


def paths(field, name=None, depth=0):
    """All (path, is text) below a field, the field itself included."""
    type_ = storage(field.type)
    name = field.name if name is None else name
    yield name, is_text(type_)
    if depth == 6:
        return
    if pa.types.is_struct(type_):
        seen = set()
        for i in range(type_.num_fields):
            child = type_.field(i)
            if child.name not in seen and child.name and not set(child.name) & set(".[]"):
                seen.add(child.name)
                yield from paths(child, f"{name}.{child.name}", depth + 1)
    elif pa.types.is_map(type_):
        for child, label in ((type_.key_field, "key"), (type_.item_field, "value")):
            yield from paths(child, f"{name}[].{label}", depth + 1)
    elif is_list(type_):
        yield from paths(type_.value_field, f"{name}[]", depth + 1)


def steps(path):
    out = []
    for part in path.split("."):
        name, *brackets = part.split("[")
        out.append(name)
        for bracket in brackets:
            inside = bracket[:-1]
            out.append(... if inside == "" else int(inside))
    return out


def collect(value, rest, out):
    if value is None:
        return
    if not rest:
        out.append(value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape"))
    elif rest[0] is ...:
        for each in value:
            collect(each, rest[1:], out)
    elif isinstance(rest[0], int):
        if -len(value) <= rest[0] < len(value):
            collect(value[rest[0]], rest[1:], out)
    elif isinstance(value, tuple):  # A map's pair.
        collect(value[0 if rest[0] == "key" else 1], rest[1:], out)
    else:
        collect(value.get(rest[0]), rest[1:], out)


def plain(column):
    """Python values of a chunked array; strings as bytes, since a file's may be no valid UTF-8."""
    out = []
    for chunk in column.chunks:
        out.extend(as_bytes(chunk))
    return out


def as_bytes(array):
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    type_ = array.type
    t = pa.types
    if t.is_dictionary(type_):
        values = as_bytes(array.dictionary)
        return [None if i is None else values[i] for i in array.indices.to_pylist()]
    if t.is_string(type_):
        return array.view(pa.binary()).to_pylist()
    if t.is_large_string(type_):
        return array.view(pa.large_binary()).to_pylist()
    if t.is_string_view(type_):
        return array.view(pa.binary_view()).to_pylist()
    if t.is_struct(type_):
        valid = array.is_valid().to_pylist()
        names, columns = [], []
        for i in range(type_.num_fields):
            if type_.field(i).name not in names:
                names.append(type_.field(i).name)
                columns.append(as_bytes(array.field(i)))
        return [dict(zip(names, row)) if ok else None
                for ok, row in zip(valid, zip(*columns) if columns else [()] * len(valid))]
    if t.is_map(type_):
        keys, items = as_bytes(array.keys), as_bytes(array.items)
        offsets = array.offsets.to_pylist()
        valid = array.is_valid().to_pylist()
        return [list(zip(keys[offsets[i]:offsets[i + 1]], items[offsets[i]:offsets[i + 1]])) if ok else None
                for i, ok in enumerate(valid)]
    if t.is_list_view(type_) or t.is_large_list_view(type_):
        values = as_bytes(array.values)
        return [None if not ok else values[o:o + s] for ok, o, s in
                zip(array.is_valid().to_pylist(), array.offsets.to_pylist(), array.sizes.to_pylist())]
    if t.is_list(type_) or t.is_large_list(type_):
        values = as_bytes(array.values)
        offsets = array.offsets.to_pylist()
        return [values[offsets[i]:offsets[i + 1]] if ok else None
                for i, ok in enumerate(array.is_valid().to_pylist())]
    if t.is_fixed_size_list(type_):
        n = type_.list_size
        values = as_bytes(array.values)  # Of the whole buffer: the array may be a slice of it.
        start = array.offset
        return [values[(start + i) * n:(start + i + 1) * n] if ok else None
                for i, ok in enumerate(array.is_valid().to_pylist())]
    return array.to_pylist()


def texts(table, path):
    """One str or None a row: drrik's rule that a row's several texts are joined by newlines."""
    column, *rest = [path] if path in table.column_names else steps(path)
    index = table.column_names.index(column)
    out = []
    for value in plain(table.column(index)):
        found = []
        collect(value, rest, found)
        out.append(b"\n".join(found).decode("utf-8", "replace") if found else None)
    return out
