"""The oracle: what Chromium shows of a file, what the decoder makes of it, and how far the two are apart."""
