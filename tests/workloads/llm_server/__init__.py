"""A local HTTPS server that speaks the APIs of language models and logs the truth of each call.

`python -m tests.workloads.llm_server --directory DIRECTORY` prints one line of JSON (`url`, `ca`, `truth`)
and serves HTTP/1.1 and HTTP/2 on loopback until its standard input ends. What it answers depends on the
prompt alone: its last `[name]` picks a scenario (`scenarios.py`). `truth` is a file of JSON Lines, one for
each answered call (`calls.Call.truth`).
"""
