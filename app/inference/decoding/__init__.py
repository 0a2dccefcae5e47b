"""From the bytes of a content to pixels that models can take; docs/images.md states the rules.

content ─► headers (app/domain/images.py) ─► decoder: frames as a browser shows them ─► renditions ─► model inputs
`decoder` runs in a child process (`child`), because a foreign decoder may crash, hang or take all memory; `pool`
keeps the children, gives them work and replaces those that die. Begin reading at `pictures`, then `decoder`.
"""
