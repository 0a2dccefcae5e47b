"""Sizes and colours inside AV1 and HEVC bitstreams. The boxes around them may contradict them."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.headers.bits import Bits

# Bytes that are read of a stream. A sequence header takes a few dozen bytes.
HEADER_BYTES = 512
_SEQUENCE_HEADER = 1
_SPS = 33
_UNSPECIFIED = 2
# Primaries, transfer and matrix of RGB without conversion, which always has the full range.
_SRGB_IDENTITY = (1, 13, 0)


@dataclass(frozen=True, slots=True)
class Coded:
    """Size that a decoder allocates, and colours: primaries and transfer by ITU-T H.273; 2 is unspecified."""

    width: int
    height: int
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    full_range: bool = False


def av1_sequence(content: bytes) -> Coded | None:
    """Return the facts from the first sequence header of an AV1 stream, or None if absent. May raise MALFORMED."""
    at = 0
    for _ in range(16):
        if at >= len(content):
            return None
        header = content[at]
        kind, extended, sized = (header >> 3) & 15, header >> 2 & 1, header >> 1 & 1
        at += 1 + extended
        size = len(content) - at
        if sized:
            size, shift = 0, 0
            while True:
                byte = content[at]
                at += 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128 or shift > 56:
                    break
        if kind == _SEQUENCE_HEADER:
            return _av1_header(Bits(content[at : at + min(size, HEADER_BYTES)]))
        at += size
    return None


def _av1_header(bits: Bits) -> Coded:
    profile = bits.take(3)
    bits.take(1)
    if bits.take(1):  # reduced still picture header
        bits.take(5)
        reduced = True
    else:
        reduced = False
        decoder_model, delay_bits = 0, 0
        if bits.take(1):  # timing
            bits.take(64)
            if bits.take(1):
                bits.exp_golomb()
            decoder_model = bits.take(1)
            if decoder_model:
                delay_bits = bits.take(5) + 1
                bits.take(32 + 10)
        display_delay = bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if decoder_model and bits.take(1):
                bits.take(2 * delay_bits + 1)
            if display_delay and bits.take(1):
                bits.take(4)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    try:
        _av1_skip_tools(bits, reduced)
        return Coded(width, height, *_av1_colour(bits, profile))
    except IndexError:
        return Coded(width, height)


def _av1_skip_tools(bits: Bits, reduced: bool) -> None:
    if not reduced and bits.take(1):  # frame ids
        bits.take(7)
    bits.take(3)
    if not reduced:
        bits.take(4)
        order_hint = bits.take(1)
        if order_hint:
            bits.take(2)
        screen_content = 2 if bits.take(1) else bits.take(1)
        if screen_content and not bits.take(1):
            bits.take(1)
        if order_hint:
            bits.take(3)
    bits.take(3)


def _av1_colour(bits: Bits, profile: int) -> tuple[int, int, bool]:
    """Return primaries, transfer, and whether values use the full range."""
    high = bits.take(1)
    if profile == 2 and high:
        bits.take(1)
    monochrome = bits.take(1) if profile != 1 else 0
    primaries, transfer, matrix = _UNSPECIFIED, _UNSPECIFIED, _UNSPECIFIED
    if bits.take(1):
        primaries, transfer, matrix = bits.take(8), bits.take(8), bits.take(8)
    if not monochrome and (primaries, transfer, matrix) == _SRGB_IDENTITY:
        return primaries, transfer, True
    return primaries, transfer, bool(bits.take(1))


def hevc_configuration(content: bytes) -> Coded | None:
    """Return the size in the first SPS of an hvcC box, or None if absent. May raise MALFORMED."""
    at = 23
    for _ in range(content[22]):
        kind, count = content[at] & 63, int.from_bytes(content[at + 1 : at + 3], "big")
        at += 3
        for _ in range(min(count, 64)):
            size = int.from_bytes(content[at : at + 2], "big")
            if kind == _SPS:
                unit = content[at + 4 : at + 2 + min(size, HEADER_BYTES)]
                return _hevc_sps(Bits(unit.replace(b"\0\0\x03", b"\0\0")))
            at += 2 + size
    return None


def _hevc_sps(bits: Bits) -> Coded:
    bits.take(4)
    sub_layers = bits.take(3)
    bits.take(1)
    bits.take(88)
    bits.take(8)
    present = [(bits.take(1), bits.take(1)) for _ in range(sub_layers)]
    if sub_layers:
        bits.take(2 * (8 - sub_layers))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.exp_golomb()
    if bits.exp_golomb() == 3:
        bits.take(1)
    return Coded(bits.exp_golomb(), bits.exp_golomb())
