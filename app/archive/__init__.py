"""Archive: Parquet files of every record on S3, kept longer than the topics.

Contains the file format, the reader, upkeep (verify, list) and the verb `archive`. The agent itself is in
`app/pipeline/archive.py`. May import the core, `app.systems` and `app.verbs`; no other feature. Start in
`partitions.py`.
"""
