// `node node_many_calls.mjs URL`: 200 calls at the same time on one HTTP/2 connection, as in many_calls.py.

import http2 from "node:http2";

const CALLS = 200;
const session = http2.connect(process.argv[2]);
await new Promise((resolve) => session.once("remoteSettings", resolve));

function call(number) {
  const body = JSON.stringify({ marker: `m${number}`, text: "é".repeat((number * 7) % 500) });
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":method": "POST", ":path": `/echo/m${number}` });
    let received = "";
    stream.setEncoding("utf8");
    stream.on("data", (part) => { received += part; });
    stream.on("error", reject);
    stream.on("end", () => {
      const first = JSON.parse(received.split("\n")[0]);
      resolve(first.marker === `m${number}` && first.body === body);
    });
    stream.end(body);
  });
}

const answers = await Promise.all(Array.from({ length: CALLS }, (_, number) => call(number)));
console.log(answers.filter(Boolean).length);
session.close();
