"""SentencePiece's precompiled charsmap for a table of replacements."""
import struct


def charsmap(table):
    """The blob for {key: replacement}, both bytes: a double-array trie in which every inner node has a block of
    its own and leaves with equal replacements share one value."""
    prefixes = sorted({key[:i] for key in table for i in range(len(key) + 1)}, key=lambda p: (len(p), p))
    inner = {key[:i] for key in table for i in range(len(key))}
    block = {prefix: (i + 1) * 256 for i, prefix in enumerate(p for p in prefixes if p in inner)}
    pool = b""
    offset = {}
    for replacement in sorted(set(table.values())):
        offset[replacement] = len(pool)
        pool += replacement + b"\0"
    values = (len(block) + 1) * 256
    slot = {replacement: values + i for i, replacement in enumerate(sorted(offset))}
    units = [0] * (values + (len(slot) + 255) // 256 * 256)
    for replacement, at in slot.items():
        units[at] = 1 << 31 | offset[replacement]
    for prefix in prefixes:
        at = block[prefix[:-1]] ^ prefix[-1] if prefix else 0
        to = block[prefix] if prefix in inner else slot[table[prefix]]
        units[at] = (at ^ to) << 10 | (prefix in table) << 8 | (prefix[-1] if prefix else 0)
        if prefix in table and prefix in inner:
            units[to] = 1 << 31 | offset[table[prefix]]
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + pool
