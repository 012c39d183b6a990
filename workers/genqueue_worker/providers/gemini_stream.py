"""The body of a streamed answer, from bytes to chunks. Pure: no I/O."""

from collections.abc import Iterator

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_wire import decode_chunk
from genqueue_worker.providers.seam import Chunk
from genqueue_worker.providers.sse import EventTooLargeError, SseParser


class StreamReader:
    """Turn a body's bytes into chunks, and know whether the answer was ended or cut."""

    def __init__(self) -> None:
        self._parser = SseParser()
        self._ended = False

    def feed(self, raw: bytes) -> Iterator[Chunk]:
        """Yield the chunks that `raw` completes; those before a broken message still come."""
        try:
            events = self._parser.feed(raw)
        except EventTooLargeError as error:
            raise ProviderError("event_too_large", str(error)) from error
        for event in events:
            yield self._decode(event)

    def close(self) -> Iterator[Chunk]:
        """Yield what the end of the body completes, then raise unless the answer was ended before."""
        for event in self._parser.close():
            try:
                yield self._decode(event)
            except ProviderError as error:
                if error.code == "malformed_chunk":  # the cut went through it
                    break
                raise
        if not self._ended:
            message = "The stream ended without a finish reason"
            raise ProviderError("truncated_stream", message, retryable=True)

    def _decode(self, event: bytes) -> Chunk:
        chunk = decode_chunk(event)
        self._ended = self._ended or chunk.finish_reason is not None or chunk.block_reason is not None
        return chunk
