"""Header blocks without a dynamic table."""

import pytest
from hpack import Decoder, HeaderTuple, NeverIndexedHeaderTuple

from genqueue_worker.providers.header_blocks import HeaderBlocks


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 255, 16511, 16512])
@pytest.mark.parametrize("kind", [HeaderTuple, NeverIndexedHeaderTuple])
def test_any_decoder_reads_them(kind, length):
    """Names with and without a number, values of every length; what is secret is marked, in each block alike."""
    fields = [
        (b":method", b"POST"),
        (b":method", b"PATCH"),
        (b":path", b"/" * length),
        HeaderTuple(b"user-agent", b"a"),
        kind(b"x-goog-api-key", b"k" * length),
        kind(b"authorization", b"k" * length),
    ]
    encoder, decoder = HeaderBlocks(), Decoder()
    decoder.max_header_list_size = 1 << 20
    for _ in range(3):
        encoder.header_table_size = 4096  # as h2 sets it
        found = decoder.decode(encoder.encode(fields), raw=True)
        assert [tuple(field) for field in found] == [tuple(field) for field in fields]
        assert [field.indexable for field in found[-2:]] == [kind is HeaderTuple] * 2
    assert not decoder.header_table.dynamic_entries
