"""Google's Gemini API, also on Vertex AI: generateContent, streamGenerateContent, embeddings.

https://ai.google.dev/api/generate-content. Names are taken in camelCase and in snake_case, as Google's JSON
mapping has it. A stream comes as server-sent events or as one array. Signatures of thoughts are left out.
"""

from __future__ import annotations

from typing import Any

from .base import Api, Draft, StreamReader
from .parts import (
    MAX_BLOCKS,
    add_answer,
    count,
    fields,
    integer,
    items,
    last_piece,
    media_part,
    named_part,
    number,
    other_part,
    reasoning_part,
    strings,
    text,
    text_part,
    tool_call_part,
    tool_result_part,
    total,
)

__all__ = ["APIS"]

_INTERNAL = "v1internal"  # a form that wraps requests and answers (Gemini Code Assist)
_OUTPUT_TYPES = {"application/json": "json", "text/plain": "text", "IMAGE": "image", "AUDIO": "speech"}
_MARKS = ("thought", "thoughtSignature", "thought_signature")  # of a part that something else is in
_ARGUMENT_VALUES = ("stringValue", "numberValue", "boolValue", "string_value", "number_value", "bool_value")


class _Generate:
    """generateContent and streamGenerateContent (see `Api`)."""

    name = "gemini"

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By the verb of the path."""
        return last_piece(path)[2] in ("generateContent", "streamGenerateContent")

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says; the model is in the path."""
        _read_path(path, request, draft, "generate_content")
        request = fields(request.get("request")) or request
        instruction = _get(request, "systemInstruction", "system_instruction")
        draft.system_instructions = _message(instruction)["parts"] if instruction else []
        draft.messages = [_message(content) for content in _contents(request.get("contents"))]
        draft.tool_definitions = items(request.get("tools"))
        config = fields(_get(request, "generationConfig", "generation_config"))
        draft.temperature = number(config.get("temperature"))
        draft.top_p = number(_get(config, "topP", "top_p"))
        draft.top_k = number(_get(config, "topK", "top_k"))
        draft.max_tokens = count(_get(config, "maxOutputTokens", "max_output_tokens"))
        draft.choice_count = count(_get(config, "candidateCount", "candidate_count"))
        draft.seed = integer(config.get("seed"))
        draft.frequency_penalty = number(_get(config, "frequencyPenalty", "frequency_penalty"))
        draft.presence_penalty = number(_get(config, "presencePenalty", "presence_penalty"))
        draft.stop_sequences = strings(_get(config, "stopSequences", "stop_sequences"))
        asked = strings(_get(config, "responseMimeType", "response_mime_type"))
        asked += strings(_get(config, "responseModalities", "response_modalities"))
        draft.output_type = next((_OUTPUT_TYPES[name] for name in asked if name in _OUTPUT_TYPES), None)

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in what an answer says, or an array of answers (a stream that came in one piece)."""
        chunks = response if isinstance(response, list) else [response]
        answer = _Answer(draft, joined=len(chunks) > 1)
        for chunk in chunks:
            answer.add(0, chunk)
        draft.first_content_ns = None
        answer.finish()

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for server-sent events, or for the elements of an array."""
        return _Stream(draft)


class _Embed:
    """embedContent and batchEmbedContents (see `Api`)."""

    name = "gemini.embeddings"

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By the verb of the path."""
        return last_piece(path)[2] in ("embedContent", "batchEmbedContents")

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says; the texts become messages."""
        _read_path(path, request, draft, "embeddings")
        requests = [fields(single) for single in items(request.get("requests"))] or [request]
        draft.messages = [_message(single["content"]) for single in requests if "content" in single]
        for single in requests:
            config = fields(_get(single, "embedContentConfig", "embed_content_config")) or single
            dimensions = count(_get(config, "outputDimensionality", "output_dimensionality"))
            draft.embedding_dimensions = draft.embedding_dimensions or dimensions

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in the number of tokens, or an error."""
        response = fields(response)
        if not _read_error(response, draft):
            _read_usage(fields(_get(response, "usageMetadata", "usage_metadata")), draft)

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for a stream of answers, which this API does not give."""
        return _Stream(draft)


class _Stream:
    """Reads a streamed answer into a draft (see `StreamReader`)."""

    def __init__(self, draft: Draft) -> None:
        draft.streaming = True
        self._draft = draft
        self._answer = _Answer(draft, joined=True)

    def item(self, at_ns: int, event: str, data: Any) -> None:
        """Takes a part of the answer, which has the form of a whole one."""
        self._answer.add(at_ns, data)

    def end(self) -> None:
        """Puts everything together. No mark ends a stream, but each choice has its reason to end."""
        self._answer.finish()


class _Candidate:
    def __init__(self) -> None:
        self.role = "assistant"
        self.parts: list[dict[str, Any]] = []
        self.pieces: list[str] = []  # of the last part, if it is text
        self.finish_reason: str | None = None
        self.arguments: dict[
            str, list[Any]
        ] = {}  # of the last part, if it is a call whose ones come in pieces
        self.open_call = False  # the last part is a call whose arguments are still to come


class _Answer:
    """Puts an answer together; `joined`: texts that follow one another are one."""

    def __init__(self, draft: Draft, *, joined: bool) -> None:
        self._draft = draft
        self._joined = joined
        self._candidates: dict[int, _Candidate] = {}
        self._blocked: str | None = None
        self._usage: dict[str, Any] = {}
        self._failed = False

    def add(self, at_ns: int, response: Any) -> None:
        draft = self._draft
        if isinstance(response, list) and response:
            response = response[0]  # as some errors come
        response = fields(response)
        response = fields(response.get("response")) or response
        if _read_error(response, draft):
            self._failed = True
            return
        usage = fields(_get(response, "usageMetadata", "usage_metadata"))
        self._usage.update({name: tokens for name, tokens in usage.items() if tokens is not None})
        draft.llm_response_id = text(_get(response, "responseId", "response_id")) or draft.llm_response_id
        draft.response_model = text(_get(response, "modelVersion", "model_version")) or draft.response_model
        feedback = fields(_get(response, "promptFeedback", "prompt_feedback"))
        self._blocked = text(_get(feedback, "blockReason", "block_reason")) or self._blocked
        for value in items(response.get("candidates")):
            self._add_candidate(at_ns, fields(value))

    def _add_candidate(self, at_ns: int, value: dict[str, Any]) -> None:
        index = count(value.get("index", 0))
        candidate = self._candidates.get(index) if index is not None else None
        if candidate is None:
            if index is None or index >= MAX_BLOCKS:
                self._draft.reasons.add("malformed")
                return
            candidate = self._candidates[index] = _Candidate()
        reason = text(_get(value, "finishReason", "finish_reason"))
        candidate.finish_reason = reason or candidate.finish_reason
        content = fields(value.get("content"))
        candidate.role = _role(content.get("role"), candidate.role)
        for part in items(content.get("parts")):
            self._add_part(at_ns, candidate, part)

    def _add_part(self, at_ns: int, candidate: _Candidate, value: Any) -> None:
        if candidate.open_call:
            self._continue_call(candidate, fields(_get(fields(value), "functionCall", "function_call")))
            return
        part = _part(value)
        if part["type"] in ("text", "reasoning"):
            if not part["content"]:
                return  # it carries a signature, or nothing
            if self._joined and candidate.parts and candidate.parts[-1]["type"] == part["type"]:
                candidate.pieces.append(part["content"])
                return
        _close(candidate)
        if part["type"] in ("text", "reasoning"):
            candidate.pieces = [part["content"]]
        candidate.parts.append(part)
        self._draft.content_at(at_ns)
        if part["type"] == "tool_call":
            call = fields(_get(fields(value), "functionCall", "function_call"))
            candidate.open_call = True
            self._continue_call(candidate, call)

    def _continue_call(self, candidate: _Candidate, call: dict[str, Any]) -> None:
        """Takes arguments that come one by one (streamFunctionCallArguments of Vertex AI)."""
        for piece in items(_get(call, "partialArgs", "partial_args")):
            path = text(_get(fields(piece), "jsonPath", "json_path"))
            if path is not None:
                name = path.removeprefix("$.")
                if "." in name or "[" in name:
                    self._draft.reasons.add("malformed")  # of those within others only the values are kept
                value = next((piece[key] for key in _ARGUMENT_VALUES if key in piece), None)
                candidate.arguments.setdefault(name, []).append(value)
        candidate.open_call = _get(call, "willContinue", "will_continue") is True

    def finish(self) -> None:
        """Fills the draft."""
        draft = self._draft
        _read_usage(self._usage, draft)
        whole = True
        for index in sorted(self._candidates):
            candidate = self._candidates[index]
            _close(candidate)
            whole = whole and candidate.finish_reason is not None and not candidate.open_call
            add_answer(draft, candidate.parts, candidate.finish_reason, candidate.role)
        if self._blocked is not None and not self._candidates:
            draft.finish_reasons.append(self._blocked)
        if not self._failed and not (whole and (self._candidates or self._blocked is not None)):
            draft.reasons.add("no_end")


def _close(candidate: _Candidate) -> None:
    """The last part is over: puts its text or its arguments together."""
    if len(candidate.pieces) > 1:
        candidate.parts[-1]["content"] = "".join(candidate.pieces)
    if candidate.arguments:
        candidate.parts[-1]["arguments"] = {
            name: "".join(values) if all(isinstance(value, str) for value in values) else values[-1]
            for name, values in candidate.arguments.items()
        }
    candidate.pieces, candidate.arguments = [], {}


def _get(value: dict[str, Any], camel: str, snake: str) -> Any:
    found = value.get(camel)
    return value.get(snake) if found is None else found


def _read_path(path: str, request: dict[str, Any], draft: Draft, operation: str) -> None:
    before, model, _ = last_piece(path)
    vertex = "/projects/" in path or "/publishers/" in before
    draft.provider_name = "gcp.vertex_ai" if vertex else "gcp.gemini"
    draft.operation_name = operation
    if model == _INTERNAL:
        model = text(request.get("model")) or ""
    draft.request_model = model or None


def _read_error(response: dict[str, Any], draft: Draft) -> bool:
    if "error" not in response:
        return False
    error = fields(response["error"])
    code = integer(error.get("code"))
    draft.error_type = text(error.get("status")) or (
        str(code) if code is not None else draft.error_type or "error"
    )
    draft.error_message = text(error.get("message")) or text(response["error"])
    return True


def _read_usage(usage: dict[str, Any], draft: Draft) -> None:
    """`promptTokenCount` has those from a cache in it; thoughts and results of tools are counted apart."""
    prompt = count(_get(usage, "promptTokenCount", "prompt_token_count"))
    tools = count(_get(usage, "toolUsePromptTokenCount", "tool_use_prompt_token_count"))
    made = count(_get(usage, "candidatesTokenCount", "candidates_token_count"))
    thoughts = count(_get(usage, "thoughtsTokenCount", "thoughts_token_count"))
    draft.input_tokens = total(prompt, tools)
    draft.output_tokens = total(made, thoughts)
    draft.reasoning_output_tokens = thoughts
    cached = _get(usage, "cachedContentTokenCount", "cached_content_token_count")
    draft.cache_read_input_tokens = count(cached)


def _contents(value: Any) -> list[Any]:
    return [value] if isinstance(value, dict) else items(value)


def _role(value: Any, default: str) -> str:
    role = text(value) or default
    return {"model": "assistant", "function": "tool"}.get(role, role)


def _message(content: Any) -> dict[str, Any]:
    if isinstance(content, str):
        return {"role": "user", "parts": [text_part(content)]}
    content = fields(content)
    parts = [_part(part) for part in _contents(content.get("parts"))]
    return {"role": _role(content.get("role"), "user"), "parts": parts}


def _part(value: Any) -> dict[str, Any]:
    part = fields(value)
    words = part.get("text")
    if isinstance(words, str):
        return reasoning_part(words) if part.get("thought") is True else text_part(words)
    call = _get(part, "functionCall", "function_call")
    if isinstance(call, dict):
        return tool_call_part(text(call.get("id")), text(call.get("name")), call.get("args", {}))
    result = _get(part, "functionResponse", "function_response")
    if isinstance(result, dict):
        found = tool_result_part(text(result.get("id")), result.get("response"), text(result.get("name")))
        if "parts" in result:
            found["parts"] = [_part(inner) for inner in items(result["parts"]) if not _nested(inner)]
        return found
    blob = _get(part, "inlineData", "inline_data")
    if isinstance(blob, dict):
        return media_part(text(_get(blob, "mimeType", "mime_type")), content=text(blob.get("data")))
    file = _get(part, "fileData", "file_data")
    if isinstance(file, dict):
        uri = text(_get(file, "fileUri", "file_uri"))
        return media_part(text(_get(file, "mimeType", "mime_type")), uri=uri)
    kind = next((key for key in part if key not in _MARKS), None)
    return other_part(value) if kind is None else named_part(kind, part[kind])


def _nested(part: Any) -> bool:
    return _get(fields(part), "functionResponse", "function_response") is not None


APIS: tuple[Api, ...] = (_Generate(), _Embed())
