// OpenAI's SDK for Node: Chat Completions.

import { converse, load, nothing, url } from "./node_common.mjs";

const OpenAI = await load("openai");
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });

function messages(talk) {
  const made = [{ role: "system", content: talk.system }, { role: "user", content: talk.prompt }];
  for (const turn of talk.turns) {
    made.push(turn.reply);
    turn.tool_calls.forEach((call, at) => {
      made.push({ role: "tool", tool_call_id: call.id, content: turn.results[at] });
    });
  }
  return made;
}

function view(answer, reasoning) {
  const [{ message, finish_reason }] = answer.choices;
  const calls = (message.tool_calls ?? []).map(({ id, type, function: { name, arguments: text } }) => (
    { id, type, function: { name, arguments: text } }));
  return {
    ...nothing(200),
    text: message.content ?? "",
    reasoning,
    tool_calls: calls.map((call) => (
      { id: call.id, name: call.function.name, arguments: JSON.parse(call.function.arguments) })),
    usage: {
      input: answer.usage.prompt_tokens,
      output: answer.usage.completion_tokens,
      cache_read: answer.usage.prompt_tokens_details.cached_tokens,
      cache_creation: answer.usage.prompt_tokens_details.cache_write_tokens,
      reasoning: answer.usage.completion_tokens_details.reasoning_tokens,
    },
    finish_reasons: [finish_reason],
    model: answer.model,
    response_id: answer.id,
    reply: { role: "assistant", content: message.content, ...(calls.length ? { tool_calls: calls } : {}) },
  };
}

await converse(async (talk) => {
  const request = { model: "gpt-5-mini", messages: messages(talk) };
  if (talk.tools.length) {
    request.tools = talk.tools.map(([name, parameters]) => ({ type: "function", function: { name, parameters } }));
  }
  try {
    if (!talk.streaming) {
      const answer = await client.chat.completions.create(request);
      return view(answer, answer.choices[0].message.reasoning_content ?? "");
    }
    const stream = client.chat.completions.stream({ ...request, stream_options: { include_usage: true } });
    let reasoning = "";
    for await (const chunk of stream) reasoning += chunk.choices[0]?.delta.reasoning_content ?? "";
    return view(await stream.finalChatCompletion(), reasoning);
  } catch (error) {
    if (error instanceof OpenAI.APIError && error.status) return nothing(error.status);
    throw error;
  }
});
