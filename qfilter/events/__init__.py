"""What leaves qfilter: events as JSON or as lines, captured packets, the table of rules. Never delays a verdict."""
