"""The demo: pictures made from packaged photographs, the whole pipeline on real servers, and its ledger."""
