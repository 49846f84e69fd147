/** Records of runs and notices: a store that keeps the old ones does not undo the new one. */
import { expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { lastRun, putRun } from "../../src/archive/records/runs.ts";
import { listNotices, putNotice } from "../../src/archive/records/notices.ts";
import { backupIdOf } from "../../src/archive/keys.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { FaultyStore, type StoreFault } from "../harness/faulty-store.ts";
import { keysBelow } from "../store/keys-below.ts";

const atOf = (n: number): Date => new Date(Date.UTC(2026, 0, 1, 0, n));
const idOf = (n: number): string => backupIdOf(atOf(n), 1);

interface Kind {
  readonly kind: string;
  readonly kept: number;
  readonly put: (archive: Archive, n: number) => Promise<void>;
  readonly newest: (archive: Archive) => Promise<string | undefined>;
}

const KINDS: readonly Kind[] = [
  {
    kind: "runs",
    kept: 50,
    put: (archive, n) => {
      const [id, at] = [idOf(n), atOf(n).toISOString()];
      return putRun(archive, { id, job: "expire", startedAt: at, finishedAt: at, ok: true, exit: 0, message: "m" });
    },
    newest: async (archive) => (await lastRun(archive, "expire", new Date()))?.id,
  },
  {
    kind: "notices",
    kept: 64,
    put: (archive, n) => {
      const [id, toldAt] = [idOf(n), atOf(n).toISOString()];
      return putNotice(archive, { id, toldAt, event: "e", subject: "s", kind: "once", state: "s" });
    },
    newest: async (archive) => (await listNotices(archive, new Date())).at(-1)?.id,
  },
];

function furnished(): { readonly store: FaultyStore; readonly archive: Archive } {
  const store = new FaultyStore(new MemoryStore());
  const identity = { systemIdentifier: 1n, segmentSize: 1 << 20, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };
  return { store, archive: { store, cluster: "main", identity, codec: runCodec } };
}

test.each(KINDS)("of $kind the newest stay", async ({ kind, kept, put }) => {
  const { store, archive } = furnished();
  for (let n = 0; n < kept + 3; n++) await put(archive, n);
  const names = (await keysBelow(store, `main/${kind}/`)).map((key) => key.replace(/^.*\/|\.json$/g, ""));
  expect(names).toEqual(Array.from({ length: kept }, (_, i) => idOf(i + 3)));
});

const faults: readonly StoreFault[] = ["deny", "fail-before"];
test.each(KINDS.flatMap((kind) => faults.map((fault) => ({ ...kind, fault }))))(
  "of $kind the newest counts when deletions of old ones fail by $fault; the next record tries again",
  async ({ kind, kept, put, newest, fault }) => {
    const { store, archive } = furnished();
    store.failpoint({ operation: "delete", fault, times: Infinity });
    for (let n = 0; n < kept + 2; n++) await put(archive, n);
    expect(await keysBelow(store, `main/${kind}/`)).toHaveLength(kept + 2);
    expect(await newest(archive)).toBe(idOf(kept + 1));
    store.heal();
    await put(archive, kept + 2);
    expect(await keysBelow(store, `main/${kind}/`)).toHaveLength(kept);
  },
);
