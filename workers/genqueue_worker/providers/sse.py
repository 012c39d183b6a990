"""Server-sent events, read from bytes that may be cut anywhere. Pure: no I/O."""

#: Longest event kept, in bytes: inline images of 20 MB are 27 MB in base64.
MAX_EVENT_BYTES = 32 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
_UNUSED_FIELDS = (b"event", b"id", b"retry")


class EventTooLargeError(ValueError):
    """Say that one event outgrew the limit; the stream is unusable from here."""


class SseParser:
    r"""Collect the data of each event.

    A line ends with CR, LF or CR LF and with nothing else: U+2028, U+2029 and U+0085 are text, which holds
    by itself on the byte level. An event is given out with the byte that completes it.
    Gemini puts some errors into the body as bare JSON, without `data:`; such lines become one last event.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._limit = max_event_bytes
        self._fragments: list[bytes] = []  # of the unfinished line: joined once, however many chunks it takes
        self._fragments_size = 0
        self._data: list[bytes] = []
        self._bare: list[bytes] = []
        self._held = 0  # bytes of the lines since the last blank one
        self._after_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events which `chunk` completes, in order.

        Raises:
            EventTooLargeError: an event is longer than the limit.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        events: list[bytes] = []
        if b"\n" in chunk or b"\r" in chunk:
            self._fragments.append(chunk)
            chunk = self._take_lines(b"".join(self._fragments), events)
            self._fragments, self._fragments_size = [], 0
        if chunk:
            self._fragments.append(chunk)
            self._fragments_size += len(chunk)
        if self._held + self._fragments_size > self._limit:
            raise EventTooLargeError(f"an event of the stream is longer than {self._limit} bytes")
        return events

    def close(self) -> list[bytes]:
        """Return what the end of the stream completes: an event without its blank line, or bare JSON."""
        events: list[bytes] = []
        if self._fragments:
            self._take_line(b"".join(self._fragments), events)
            self._fragments, self._fragments_size = [], 0
        self._take_line(b"", events)
        if self._bare:
            events.append(b"\n".join(self._bare))
            self._bare = []
        return events

    def _take_lines(self, text: bytes, events: list[bytes]) -> bytes:
        """Read the finished lines of `text`; return the unfinished rest."""
        lines = text.splitlines()
        last = text[-1:]
        self._after_cr = last == b"\r"
        rest = b"" if last in b"\r\n" else lines.pop()
        for line in lines:
            self._take_line(line, events)
        return rest

    def _take_line(self, line: bytes, events: list[bytes]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data = []
            self._held = sum(map(len, self._bare))
            return
        self._held += len(line)
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name and name not in _UNUSED_FIELDS:
            self._bare.append(line)
