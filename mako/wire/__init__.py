"""What processes say to each other, as bytes (docs/wire.md). No socket, no clock, no chance.

    stream of bytes ── FrameReader ──▶ frames ── decode_hello, decode_batch ──▶ messages
    messages ── hello_parts, batch_frames ──▶ buffers for one send

Invariants:
    W1  No byte from outside raises anything but WireError, and none makes a reader allocate more
        than a small multiple of what was received.
    W2  Large data is sent by reference and copied once when it is decoded.
"""
