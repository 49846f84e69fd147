/** What `seawall restore` shows and takes on the command line, apart from restoring. */
import { expect, test } from "vitest";
import { Progress } from "../../src/cli/views/progress.ts";
import { recoveryPoint } from "../../src/cli/commands/drill.ts";
import { parseMapping } from "../../src/cli/commands/restore.ts";
import { mappingOption } from "../../src/restore/tablespace-places.ts";
import { parseLsn } from "../../src/wal/lsn.ts";

function shown(options: { interactive: boolean; json: boolean }): string {
  let text = "";
  let nowMs = 0;
  const io = {
    out: async () => undefined,
    err: (piece: string) => void (text += piece),
    colours: false,
    interactive: options.interactive,
  };
  const progress = new Progress({ io, json: options.json, verb: "restoring", nowMs: () => nowMs });
  progress.begin(100 << 20);
  for (let step = 0; step < 10; step++) {
    nowMs += 1000;
    progress.advance(5 << 20);
  }
  progress.end();
  return text;
}

test("on a terminal one line is drawn over, and cleared at the end", () => {
  const text = shown({ interactive: true, json: false });
  expect(text).not.toContain("\n");
  expect(text.split("\r").at(-2)).toBe(
    "restoring   50%  ████████████░░░░░░░░░░░░  50.0 MiB of 100 MiB  5.00 MiB/s  10.0 s left\u001b[K",
  );
  expect(text.endsWith("\r\u001b[K")).toBe(true);
});

test("elsewhere there is a line every ten seconds", () => {
  const text = shown({ interactive: false, json: false });
  expect(text).toBe("restoring   50%  50.0 MiB of 100 MiB  5.00 MiB/s  10.0 s left\n");
});

test("with --json an object every second", () => {
  const lines = shown({ interactive: true, json: true }).trim().split("\n");
  expect(lines).toHaveLength(10);
  expect(JSON.parse(lines[9] ?? "")).toEqual({
    ...{ event: "progress", bytes: 50 << 20, totalBytes: 100 << 20, bytesPerSecond: 5 << 20, secondsLeft: 10 },
    detail: "",
  });
});

test("progress that is not bytes is counted in its own unit, with an unknown total", () => {
  for (const [json, expected] of [
    [false, "\rlisting  2500 segments  2500 segments/s\u001b[K\r\u001b[K"],
    [true, '{"event":"progress","segments":2500,"total":null,"perSecond":2500,"secondsLeft":null,"detail":""}\n'],
  ] as const) {
    let text = "";
    let nowMs = 0;
    const io = {
      out: async () => undefined,
      err: (piece: string) => void (text += piece),
      colours: false,
      interactive: true,
    };
    const progress = new Progress({ io, json, verb: "listing", unit: "segments", nowMs: () => nowMs });
    progress.begin(undefined);
    nowMs += 1000;
    progress.advance(2500);
    progress.end();
    expect(text).toBe(expected);
  }
});

test("tablespace mappings", () => {
  const mapping = parseMapping("/old/=/new\n16400=/other\n/with\\=sign=/x\\=y");
  expect([...mapping]).toEqual([
    ["/old", "/new"],
    ["16400", "/other"],
    ["/with=sign", "/x=y"],
  ]);
  expect([...parseMapping(undefined)]).toEqual([]);
  // Every option that a hint tells to write is read as it was meant.
  for (const [path, read] of [
    ["/old", "/old"],
    ["/a=b", "/a=b"],
    ["/a\\=b\\c", "/a\\=b\\c"],
    ["/ends in \\", "16400"],
  ] as const) {
    const option = mappingOption(16400, path).replace(/^--tablespace-mapping '?|'$/g, "");
    expect([...parseMapping(option)]).toEqual([[read, "/another/directory"]]);
  }
  for (const wrong of ["/old", "=/new", "/old=", "/a=/b=/c", ""]) {
    expect(() => parseMapping(wrong)).toThrowError(/is not OLD=NEW/);
  }
});

test.each([
  ["0/D04E080", "0/D04E080", "0/D04E080, as promised,"],
  ["0/D04E080", "0/D100590", "0/D100590, beyond the promised 0/D04E080,"],
  ["0/D04E080", "0/C000000", "0/C000000, short of the promised 0/D04E080,"],
  ["0/D04E080", undefined, "not known; 0/D04E080 was promised"],
  [undefined, undefined, "unknown"],
])("a drill that was promised %s and reached %s says so", (promised, reached, says) => {
  const lsn = (text: string | undefined) => (text === undefined ? undefined : parseLsn(text));
  expect(recoveryPoint({ promisedLsn: lsn(promised), reachedLsn: lsn(reached) })).toBe(says);
});
