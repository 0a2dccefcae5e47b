"""Kafka: reading, publishing, transactions, administration. The only package, beside Faust's, that imports aiokafka."""
