"""Readers of image headers, one module for each format: sizes, frames, and what decoding will cost.

    content ─► images.inspect ─► headers/<format>.read ─► Layout ─► ImageHeader or Rejection

A reader looks at a few bytes of the content and allocates nothing that the content asks for. It may raise MALFORMED
(`layout`) for any content. Begin reading at `layout`, then `memory` (the measured cost of each decoder).
"""
