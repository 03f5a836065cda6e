"""Real clients under the tracer, against a server that logs the truth, as a table.

`python -m tests.clients` (`make test-clients`) installs the clients into `build/clients/`, runs each of them
untraced and traced, and compares what the tracer recorded with what the server's TLS layer sent and received,
byte for byte. `docs/clients.md` has the table of clients and what the columns mean.
"""
