"""Decoding: from the bytes of a content to the inputs of models; docs/images.md states the rules.

    content ─► headers (app/domain/images.py) ─► decoder: frames as a browser shows them ─► renditions ─► model inputs

`decoder` runs in a child process (`child`), because an image library may crash, hang or exhaust the memory. `pool` owns
the children, gives them work and replaces those that die. Begin reading at `pictures`, then `decoder`.
"""
