"""SQL on the lake: views, dialects, the data dictionary, questions with answers, output."""
