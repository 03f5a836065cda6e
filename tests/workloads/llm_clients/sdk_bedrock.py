"""Amazon's SDK: Bedrock's Converse."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from .common import SCENARIOS, Ask, Connection, Talk, View

__all__ = ["SCENARIOS", "asking"]


def _request(talk: Talk) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": [{"text": talk.prompt}]}]
    for view, results in talk.results():
        messages.append({"role": "assistant", "content": view.reply})
        content = [
            {"toolResult": {"toolUseId": call["id"], "content": [{"text": result}]}}
            for call, result in results
        ]
        messages.append({"role": "user", "content": content})
    request: dict[str, Any] = {
        "modelId": "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "messages": messages,
        "system": [{"text": talk.system}],
        "inferenceConfig": {"maxTokens": 4000, "temperature": 0.5},
    }
    if talk.tools:
        specs = [
            {"toolSpec": {"name": name, "description": name, "inputSchema": {"json": schema}}}
            for name, schema in talk.tools.items()
        ]
        request["toolConfig"] = {"tools": specs}
    return request


def _whole(answer: dict[str, Any]) -> View:
    view = View(finish_reasons=[answer["stopReason"]])
    counted = answer["usage"]
    read, written = counted["cacheReadInputTokens"], counted["cacheWriteInputTokens"]
    view.usage = {
        "input": counted["inputTokens"] + read + written,
        "output": counted["outputTokens"],
        "cache_read": read,
        "cache_creation": written,
    }
    view.reply = answer["output"]["message"]["content"]
    for block in view.reply:
        if "reasoningContent" in block:
            view.reasoning += block["reasoningContent"]["reasoningText"]["text"]
        elif "text" in block:
            view.text += block["text"]
        elif use := block.get("toolUse"):
            view.tool_calls.append({"id": use["toolUseId"], "name": use["name"], "arguments": use["input"]})
    return view


def _joined(events: Iterator[dict[str, Any]]) -> View:
    """The parts of the stream as the answer that `_whole` takes."""
    answer: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    for event in events:
        ((name, data),) = event.items()
        if name == "contentBlockStart":
            blocks[data["contentBlockIndex"]] = {"toolUse": {**data["start"]["toolUse"], "input": ""}}
        elif name == "contentBlockDelta":
            block, delta = blocks.setdefault(data["contentBlockIndex"], {}), data["delta"]
            if "text" in delta:
                block["text"] = block.get("text", "") + delta["text"]
            elif "toolUse" in delta:
                block["toolUse"]["input"] += delta["toolUse"]["input"]
            else:
                reasoning = block.setdefault("reasoningContent", {}).setdefault("reasoningText", {})
                for key, value in delta["reasoningContent"].items():
                    reasoning[key] = reasoning.get(key, "") + value
        else:
            answer.update(data)
    for block in blocks.values():
        if use := block.get("toolUse"):
            use["input"] = json.loads(use["input"])
    content = [blocks[index] for index in sorted(blocks)]
    return _whole({**answer, "output": {"message": {"content": content}}})


@contextlib.contextmanager
def asking(connection: Connection) -> Iterator[Ask]:
    """What asks."""
    client: Any = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=connection.url,
        verify=connection.ca,
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )

    def ask(talk: Talk) -> View:
        try:
            if talk.streaming:
                return _joined(client.converse_stream(**_request(talk))["stream"])
            return _whole(client.converse(**_request(talk)))
        except ClientError as error:
            return View(status=error.response["ResponseMetadata"]["HTTPStatusCode"])

    yield ask
