// `exchange.mjs fetch|https|http2 URL [CONNECTIONS]`: what python_client.py does, in Node, Bun and Deno.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import https from "node:https";
import process from "node:process";
import { Buffer } from "node:buffer";

const [kind, url, count] = process.argv.slice(2);
const body = Buffer.alloc(3_000_000);
for (let at = 0, state = 1; at < body.length; at++) {
  state = (state * 1103515245 + 12345) & 0x7fffffff;
  body[at] = state >> 16;
}
const question = { model: "test", stream: true, messages: [{ role: "user", content: "hello [long]" }] };
const steps = [
  ["GET", "/bytes/1000"],
  ["POST", "/digest", body],
  ["GET", "/bytes/3000000"],
  ["POST", "/v1/chat/completions", Buffer.from(JSON.stringify(question))],
];
const ca = process.env.NODE_EXTRA_CA_CERTS && readFileSync(process.env.NODE_EXTRA_CA_CERTS);
const agent = new https.Agent({ keepAlive: true, ca });

async function byFetch(method, path, sent) {
  const headers = sent ? { "content-type": "application/json" } : {};
  const answer = await fetch(url + path, { method, body: sent, headers });
  return Buffer.from(await answer.arrayBuffer());
}

function byHttps(method, path, sent, own) {
  return new Promise((resolve, reject) => {
    const options = { method, agent: own ? new https.Agent({ ca }) : agent };
    const request = https.request(url + path, options, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => resolve(Buffer.concat(parts)));
      answer.on("error", reject);
    });
    request.on("error", reject);
    if (sent) request.setHeader("content-length", sent.length);
    request.end(sent);
  });
}

function byHttp2(session) {
  return (method, path, sent) => new Promise((resolve, reject) => {
    const stream = session.request({ ":method": method, ":path": path });
    const parts = [];
    stream.on("data", (part) => parts.push(part));
    stream.on("end", () => resolve(Buffer.concat(parts)));
    stream.on("error", reject);
    stream.end(sent);
  });
}

async function main() {
  let ask = kind === "https" ? byHttps : byFetch;
  let session;
  if (kind === "http2") {
    const http2 = await import("node:http2");
    session = http2.connect(url, { ca });
    ask = byHttp2(session);
  }
  if (count) {
    const one = async (number) => {
      const text = `body of ${number} `.repeat(50);
      const answer = await ask("POST", `/echo/m${number}`, Buffer.from(text), true);
      const first = JSON.parse(answer.toString().split("\n")[0]);
      return first.marker === `m${number}` && first.body === text;
    };
    const right = await Promise.all(Array.from({ length: Number(count) }, (_, number) => one(number)));
    console.log("right answers:", right.filter(Boolean).length);
  } else {
    for (const [method, path, sent] of steps) {
      const answer = await ask(method, path, sent);
      console.log(path, answer.length, createHash("sha256").update(answer).digest("hex"));
    }
  }
  session?.close();
  agent.destroy();
}

await main();
