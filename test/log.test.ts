/** The log: one JSON line per call, levels, components, errors with their causes, and no secrets. */
import { describe, expect, it } from "vitest";
import { SeawallError } from "../src/errors.ts";
import { createLog, redactSecrets, type LogOptions, withoutControls } from "../src/log.ts";

function capture(level: LogOptions["level"] = "info"): {
  readonly log: ReturnType<typeof createLog>;
  readonly lines: () => Record<string, unknown>[];
} {
  const written: string[] = [];
  const log = createLog({ level, format: "json", destination: { write: (line) => written.push(line) } });
  return { log, lines: () => written.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

describe("lines", () => {
  it("one JSON object a call: level, ISO time, component, message, fields", () => {
    const { log, lines } = capture();
    log.child("receive", { cluster: "main" }).info("streaming", { lsn: "0/1", bytes: 10n, absent: undefined });
    const [line] = lines();
    expect(line).toMatchObject({ level: "info", component: "receive", cluster: "main", msg: "streaming", lsn: "0/1" });
    expect(line?.["bytes"]).toBe("10");
    expect(String(line?.["time"])).toMatch(/^\d{4}-\d\d-\d\dT.*Z$/);
    expect(line).not.toHaveProperty("absent");
  });

  it.each([
    ["debug", 4],
    ["info", 3],
    ["warn", 2],
    ["error", 1],
    ["silent", 0],
  ] as const)("at level %s %i of four severities are written", (level, count) => {
    const { log, lines } = capture(level);
    log.debug("a");
    log.info("b");
    log.warn("c");
    log.error("d");
    expect(lines()).toHaveLength(count);
  });

  it("an error keeps its code, hint, details and the chain of its causes, and no stack unless it is a bug", () => {
    const { log, lines } = capture();
    const cause = new Error("reset", { cause: new AggregateError([new Error("refused")], "all failed") });
    log.error("put failed", {
      err: new SeawallError("store-unavailable", "no answer", { cause, details: { key: "k" } }),
    });
    log.error("bug", { err: new TypeError("x is not a function") });
    const [known, bug] = lines();
    expect(known?.["err"]).toEqual({
      code: "store-unavailable",
      message: "no answer",
      causes: ["reset", "all failed", "refused"],
      hint: "Check the endpoint and the network; Seawall keeps trying within its limits.",
      details: { key: "k" },
    });
    expect(bug?.["err"]).toMatchObject({ name: "TypeError", message: "x is not a function" });
    expect(JSON.stringify(bug)).toContain("log.test.ts");
  });
});

describe("secrets", () => {
  it.each([
    ["postgres://me:hunter2@db:5432/x", "postgres://me:[redacted]@db:5432/x"],
    ["postgres://me:p@ss@db/x", "postgres://me:[redacted]@db/x"],
    ["postgres://me@db/x?password=hunter2&sslmode=require", "postgres://me@db/x?password=[redacted]&sslmode=require"],
    ["host=db password=hunter2 user=me", "host=db password=[redacted] user=me"],
    ["host=db password = 'hun ter\\'2' user=me", "host=db password = [redacted] user=me"],
    ["sslpassword=abc", "sslpassword=[redacted]"],
    ["GET /k?X-Amz-Signature=abc123&X-Amz-Date=1", "GET /k?X-Amz-Signature=[redacted]&X-Amz-Date=1"],
    ["nothing secret here: a=b", "nothing secret here: a=b"],
    ["PGPASSWORD=hunter2 psql", "PGPASSWORD=[redacted] psql"],
    [
      "AWS_SECRET_ACCESS_KEY=abc/def AWS_SESSION_TOKEN=xyz",
      "AWS_SECRET_ACCESS_KEY=[redacted] AWS_SESSION_TOKEN=[redacted]",
    ],
    ['{"user":"me","password":"hun\\"ter2","port":1}', '{"user":"me","password":"[redacted]","port":1}'],
    ["Authorization: Bearer abc.def-1, Accept: x", "Authorization: [redacted], Accept: x"],
    ["the hook said: Bearer eyJhbGciOi1 is unknown", "the hook said: Bearer [redacted] is unknown"],
    ["x-api-key: 0123, retry", "x-api-key: [redacted], retry"],
    [
      "the password of the user main is wrong: basic settings",
      "the password of the user main is wrong: basic settings",
    ],
  ])("%s", (text, expected) => {
    expect(redactSecrets(text)).toBe(expected);
  });

  it("never reach a line: not in the message, a field, a nested field, an error or its cause", () => {
    const { log, lines } = capture();
    const err = new Error("connect postgres://me:hunter2@db/x", { cause: new Error("password=hunter2") });
    log.warn("lost host=db password=hunter2", {
      dsn: "postgres://me:hunter2@db/x",
      password: "hunter2",
      secretAccessKey: "hunter2",
      nested: { list: ["password=hunter2"], sessionToken: "hunter2" },
      err,
    });
    expect(JSON.stringify(lines())).not.toContain("hunter2");
    expect(JSON.stringify(lines())).toContain("[redacted]");
  });
});

describe("control characters", () => {
  it.each([
    ["a title set by a name", "\u001b]0;owned\u0007backup", "\\u001b]0;owned\\u0007backup"],
    ["a line taken back", "damaged\r\u001b[Kok", "damaged\\u000d\\u001b[Kok"],
    ["a cursor moved up", "x\u001b[2A\u001b[0J", "x\\u001b[2A\\u001b[0J"],
    ["C1 and DEL", "\u009b31mred\u007f", "\\u009b31mred\\u007f"],
    ["text turned around", "gpj.\u202eexe", "gpj.\\u202eexe"],
    ["tabs, lines and letters of any script stay", "a\tb\nč 日本 🐘\n", "a\tb\nč 日本 🐘\n"],
    ["our own colours stay", "\u001b[31mred\u001b[0m", "\u001b[31mred\u001b[0m"],
    ["a line of progress stays", "\rverifying  3%\u001b[K", "\rverifying  3%\u001b[K"],
  ])("%s", (_, text, shown) => {
    expect(withoutControls(text)).toBe(shown);
  });

  it("in JSON mean the same as before", () => {
    const text = JSON.stringify({ name: "a\u009bb\u007f\u202e\u001b" });
    expect(JSON.parse(withoutControls(text))).toEqual(JSON.parse(text));
  });
});
