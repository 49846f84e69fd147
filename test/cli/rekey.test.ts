/** `seawall rekey` says when the given identity will not open the archive any more. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openFolderFor } from "../../src/archive/archive.ts";
import { putSegment } from "../../src/archive/wal/objects.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import { openStore } from "../../src/store/open.ts";
import { type SegmentNumber, segmentEnd, segmentStart, type TimelineId } from "../../src/wal/lsn.ts";
import { makeKeys } from "../harness/encryption.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { inProcess } from "./cli.ts";

const SIZE = 1 << 20;

let dir = "";
let url = "";
beforeEach(() => {
  dir = makeTempDir("rekey");
  url = `file://${join(dir, "store")}`;
  mkdirSync(join(dir, "store"));
});
afterEach(() => removeTree(dir));

async function keysIn(name: string): Promise<Awaited<ReturnType<typeof makeKeys>>> {
  mkdirSync(join(dir, name));
  return makeKeys(join(dir, name));
}

test("a rekey that shuts the given identity out warns before it is done and after, and one that keeps it does not", async () => {
  const [old, fresh] = [await keysIn("old"), await keysIn("fresh")];
  const server = { systemIdentifier: 7n, segmentSize: SIZE, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };
  const store = openStore(url, { env: {} });
  const archive = await openFolderFor(store, "main", server, {
    codec: new Codec({ recipients: await Recipients.of([old.recipient]) }),
  });
  const place = { timeline: 1 as TimelineId, segment: 5 as SegmentNumber, segmentSize: SIZE };
  const [startLsn, endLsn] = [segmentStart(place.segment, SIZE), segmentEnd(place.segment, SIZE)];
  await putSegment(archive, place, Buffer.alloc(SIZE), { startLsn, endLsn, verifiedLsn: startLsn }, { confirm: true });
  await store.close();
  const rekey = async (...flags: string[]): Promise<string> => {
    const { code, stdout, stderr } = await inProcess([
      "rekey",
      "--store",
      url,
      "--identity",
      old.identityFile,
      ...flags,
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    return stdout;
  };
  const both = ["--encrypt-to", old.recipient, "--encrypt-to", fresh.recipient];
  const alone = ["--encrypt-to", fresh.recipient];

  const kept = await rekey(...both, "--confirm", "main");
  expect(kept).toContain("1 object encrypted to the new recipients");
  expect(kept).not.toContain("given identity");
  expect(await rekey(...alone)).toContain("The given identity will not open it any more.");
  expect(await rekey(...alone, "--confirm", "main")).toContain("The given identity does not open it any more.");
});
