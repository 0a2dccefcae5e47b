"""Readers of image headers, one module for each format: size, frames, and cost of decoding.

    content ─► images.inspect ─► headers/<format>.read ─► Layout ─► ImageHeader or Rejection

A reader examines a few bytes of the content and allocates nothing whose size the content chooses. It may raise
MALFORMED (`layout`) for any content. Begin reading at `layout`, then `memory` (the measured cost of each decoder).
"""
