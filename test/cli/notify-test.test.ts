/** `seawall notify-test`: what is sent, what is said of the answer, and the exit status. */
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { inProcess } from "./cli.ts";

let dir: string;
let server: Server;
let url: string;
const bodies: string[] = [];
let status = 200;
beforeAll(async () => {
  dir = makeTempDir("notify-test");
  server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => (body += text));
    request.on("end", () => {
      bodies.push(body);
      // An echo of what should stay a secret.
      response.writeHead(status).end(`token ${request.headers["x-token"]?.toString() ?? ""} at ${request.url ?? ""}`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/services/secret-path`;
});
afterAll(() => {
  server.close();
  removeTree(dir);
});

function hook(script: string): string {
  const path = join(dir, "hook.sh");
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

test("a webhook and a command that accept: exit 0, and the answer without secrets", async () => {
  status = 200;
  const config = join(dir, "seawall.yaml");
  const path = hook(`cat > ${dir}/body`);
  const lines = [
    `store: file://${dir}/no-archive-here`,
    "cluster: orders",
    `notify-url: ${url}`,
    'notify-header: "X-Token: very-secret"',
  ];
  writeFileSync(config, [...lines, `notify-command: ${path}`, ""].join("\n"));
  const ran = await runCli(["notify-test", "--config", config]);
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  expect(ran.stdout).toMatch(/^accepted +webhook +HTTP status 200: token \[redacted\] at \[redacted\]$/m);
  expect(ran.stdout).toMatch(/^accepted +command +exit status 0$/m);
  const body: unknown = JSON.parse(bodies.at(-1) ?? "");
  expect(body).toMatchObject({ version: 1, event: "test", severity: "info", cluster: "orders", details: {} });
  expect(JSON.parse(readFileSync(join(dir, "body"), "utf8"))).toEqual(body);
});

test("one that refuses: exit 1, and both are told of", async () => {
  status = 403;
  const path = hook("echo 'pager is off' >&2; exit 3");
  const flags = ["--notify-url", url, "--notify-command", path, "--cluster", "orders", "--json"];
  const ran = await inProcess(["notify-test", ...flags]);
  expect(ran).toMatchObject({ code: 1, stderr: "" });
  expect(JSON.parse(ran.stdout)).toMatchObject({
    ...{ ok: false, body: { event: "test", cluster: "orders" } },
    results: [
      { channel: "webhook", ok: false, answer: "HTTP status 403: token at [redacted]" },
      { channel: "command", ok: false, answer: "exit status 3: pager is off" },
    ],
  });
});

test("no channel to notify: exit 2", async () => {
  const ran = await inProcess(["notify-test"]);
  expect(ran).toMatchObject({ code: 2, stdout: "" });
  expect(ran.stderr).toMatch(/^error: there is no channel to notify\nhint: Give --notify-url/);
});
