/** `seawall rekey` refuses to shut the given identities out. */
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

test("a rekey that shuts the given identities out is refused unless it is forced", async () => {
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
  const rekey = async (...flags: string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
    inProcess(["rekey", "--store", url, "--identity", old.identityFile, ...flags]);
  const both = ["--encrypt-to", old.recipient, "--encrypt-to", fresh.recipient];
  const alone = ["--encrypt-to", fresh.recipient];

  const kept = await rekey(...both, "--confirm", "main");
  expect(kept).toMatchObject({ code: 0, stdout: expect.stringContaining("1 object encrypted to the new") as string });
  const shown = await rekey(...alone);
  expect([shown.code, shown.stdout]).toEqual([0, expect.stringContaining("It will be refused") as unknown]);
  const refused = await rekey(...alone, "--confirm", "main");
  expect([refused.code, refused.stderr]).toEqual([
    2,
    expect.stringContaining("none of the given identities would open the archive any more") as unknown,
  ]);
  expect((await rekey(...both)).stdout).toContain("1 object encrypted to them already");
  const given = await rekey("--identity", fresh.identityFile, ...alone);
  expect(given.stdout).not.toContain("refused");
  const forced = await rekey(...alone, "--confirm", "main", "--force");
  expect(forced).toMatchObject({ code: 0, stdout: expect.stringContaining("1 object encrypted to the new") as string });
});
