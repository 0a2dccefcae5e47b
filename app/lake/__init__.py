"""Lake: Iceberg tables on S3 that Kafka Connect fills from the topics.

`iceberg/` reads and writes tables, `connect/` sets up and watches the sink, `sql/` answers questions, `upkeep/`
verifies, repairs, compacts and erases, `verbs/` is the command line. May import the core, `app.systems` and
`app.verbs`; no other feature. Start reading in `verbs/__init__.py`; the tables are declared in `app/domain/lake.py`.
"""
