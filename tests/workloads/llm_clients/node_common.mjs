// What the clients in Node share; the same conversations as in common.py.
//
// `node node_SDK.mjs URL MODULES`: the certificate's authority comes from NODE_EXTRA_CA_CERTS; MODULES is the
// folder in which npm has installed the SDKs. Prints one line of JSON a call.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

export const url = process.argv[2];
const SCENARIOS = ["plain", "unicode", "cached", "length", "thinking", "tool", "parallel-tools", "thinking-tool",
  "long", "error-429", "error-400"];
const TOOLS = {
  weather: {
    type: "object",
    properties: {
      city: { type: "string" },
      days: { type: "integer" },
      units: { type: "object", properties: { temperature: { type: "string" } } },
    },
    required: ["city"],
  },
  clock: { type: "object", properties: { zone: { type: "string" } }, required: ["zone"] },
};

/** The default export of an SDK. */
export async function load(name) {
  const require = createRequire(`${process.argv[3]}/package.json`);
  const loaded = await import(pathToFileURL(require.resolve(name)));
  return loaded.default?.default ?? loaded.default;
}

/** Has all conversations, one after the other; `ask` gives what an SDK made of an answer. */
export async function converse(ask) {
  for (const scenario of SCENARIOS) {
    for (const streaming of [false, true]) {
      const marker = `#${scenario}-${streaming ? "streamed" : "whole"}#`;
      const talk = {
        scenario,
        streaming,
        system: "Be brief.\nAnswer in “English”.",
        prompt: `[${scenario}] What about Zürich? ${marker}`,
        tools: scenario.includes("tool") ? Object.entries(TOOLS) : [],
        turns: [],
      };
      for (;;) {
        const { reply, ...view } = await ask(talk);
        console.log(JSON.stringify({ marker, turn: talk.turns.length, streaming, ...view }));
        if (!view.tool_calls.length) break;
        talk.turns.push({ ...view, reply, results: view.tool_calls.map((_, at) => `Result ${at}: 21 °C`) });
      }
    }
  }
}

/** What there is where no answer came. */
export function nothing(status) {
  return {
    text: "", reasoning: "", tool_calls: [], usage: {}, finish_reasons: [], model: null, response_id: null, status,
  };
}
