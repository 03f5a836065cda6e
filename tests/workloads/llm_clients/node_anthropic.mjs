// Anthropic's SDK for Node: Messages.

import { converse, load, nothing, url } from "./node_common.mjs";

const Anthropic = await load("@anthropic-ai/sdk");
const client = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });

function messages(talk) {
  const made = [{ role: "user", content: talk.prompt }];
  for (const turn of talk.turns) {
    made.push({ role: "assistant", content: turn.reply });
    made.push({
      role: "user",
      content: turn.tool_calls.map((call, at) => (
        { type: "tool_result", tool_use_id: call.id, content: [{ type: "text", text: turn.results[at] }] })),
    });
  }
  return made;
}

function view(answer) {
  const joined = (type, key) => answer.content.filter((block) => block.type === type)
    .map((block) => block[key]).join("");
  const { usage } = answer;
  return {
    ...nothing(200),
    text: joined("text", "text"),
    reasoning: joined("thinking", "thinking"),
    tool_calls: answer.content.filter((block) => block.type === "tool_use")
      .map(({ id, name, input }) => ({ id, name, arguments: input })),
    usage: {
      input: usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens,
      output: usage.output_tokens,
      cache_read: usage.cache_read_input_tokens,
      cache_creation: usage.cache_creation_input_tokens,
    },
    finish_reasons: [answer.stop_reason],
    model: answer.model,
    response_id: answer.id,
    reply: answer.content,
  };
}

await converse(async (talk) => {
  const request = {
    model: "claude-sonnet-4-5", max_tokens: 4000, system: talk.system, messages: messages(talk),
  };
  if (talk.scenario.includes("thinking")) request.thinking = { type: "enabled", budget_tokens: 2000 };
  if (talk.tools.length) {
    request.tools = talk.tools.map(([name, input_schema]) => ({ name, input_schema }));
  }
  try {
    return view(await (talk.streaming
      ? client.messages.stream(request).finalMessage() : client.messages.create(request)));
  } catch (error) {
    if (error instanceof Anthropic.APIError && error.status) return nothing(error.status);
    throw error;
  }
});
