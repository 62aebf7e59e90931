"""Reads event files back, as TensorBoard does."""

import struct

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c


def records(content):
    """The events of a file; every checksum must be right."""
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        parts = content[:8], content[12 : 12 + length]
        found = content[8:12], content[12 + length : 16 + length]
        assert tuple(struct.pack("<I", masked_crc32c(part)) for part in parts) == found
        yield Event.FromString(parts[1])
        content = content[16 + length :]


def events(folder):
    """All events of a folder, file by file; each file begins with its version."""
    found = []
    for path in sorted(folder.iterdir()):
        version, *others = records(path.read_bytes())
        assert version.file_version == "brain.Event:2"
        found += others
    return found


def scalars(folder):
    """By tag, all (step, value)."""
    found = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def values(folder, tag):
    """All (step, value) of a text or a picture."""
    return [(e.step, v) for e in events(folder) for v in e.summary.value if v.tag == tag]
