"""Documentation: the pages of docs/ that are generated from declarations.

Contains the writer of the pages and the verb `docs`. May import every package below the command line. Start in
`pages.py`.
"""
