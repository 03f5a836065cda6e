"""Real SDKs asking the server of `llm_server`, each in a process of its own.

`python -m tests.workloads.llm_clients SDK --url … --ca …` runs every scenario that the SDK has, whole and
streamed, with the tools that are asked for, and prints what the SDK made of each answer: one line of JSON a
call (`common.View`). `node_openai.mjs` and `node_anthropic.mjs` do the same in Node.
"""
