/** Expiries and rekeys in a real bucket: with nothing in the way, and with Object Lock. */
import { randomBytes } from "node:crypto";
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  ListObjectVersionsCommand,
  PutObjectLockConfigurationCommand,
} from "@aws-sdk/client-s3";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { rekeyArchive } from "../../src/archive/rekey.ts";
import { expire, type Expired } from "../../src/archive/retention/expire.ts";
import { type Decide, planExpiry } from "../../src/archive/retention/expiry-plan.ts";
import { planRetention } from "../../src/archive/retention/plan.ts";
import { Identities } from "../../src/codec/age/identities.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import { openStore } from "../../src/store/open.ts";
import type { Store } from "../../src/store/store.ts";
import { keysBelow } from "../store/keys-below.ts";
import { type S3Server, startS3 } from "../harness/s3.ts";
import { emptyArchive, NEW, OLD, putSegments, putWholeBackup } from "./retained.ts";

const s3 = await startS3();
const now = (): Date => new Date();

/** Segments 1 to 8, of which the older backup needs 3 on and the newer 6 on. */
async function expireIn(store: Store): Promise<Expired> {
  const archive = await emptyArchive(store);
  await putSegments(archive, 1, 1, 8);
  await putWholeBackup(archive, { id: OLD, startLsn: "0/300028", stopLsn: "0/300100" });
  await putWholeBackup(archive, { id: NEW, startLsn: "0/600028", stopLsn: "0/600100" });
  const decide: Decide = (facts) => planRetention(facts, { keepFull: 1 }, now());
  return expire(archive, await planExpiry(archive, decide), { now, decide, withWal: true });
}

const LEFT = [
  ...["backup.json", "backup_manifest", "files.jsonl.zst", "parts/00001.tar.zst", "parts/00002.tar.zst"].map(
    (name) => `main/backups/${NEW}/${name}`,
  ),
  "main/cluster.json",
  ...[6, 7, 8].map((number) => `main/wal/00000001/00000000/00000001000000000000000${number}.zst`),
];

describe.skipIf(!s3.available)("s3", () => {
  test("what goes is gone, and what it took is free", async () => {
    await using bucket = await s3.bucket();
    await using store = closing(openStore(bucket.url, { env: s3.env }));
    expect(await expireIn(store)).toMatchObject({ objects: 10, hidden: 0, refused: 0 });
    expect(await keysBelow(store, "main/")).toEqual(LEFT);
  });

  test("under Object Lock what goes is hidden, every locked version is kept, and that is told", async () => {
    await using bucket = await lockedBucket(s3);
    await using store = closing(openStore(s3.urlOf(bucket.name), { env: s3.env }));
    expect(await expireIn(store)).toMatchObject({ objects: 10, hidden: 10, refused: 0 });
    expect(await keysBelow(store, "main/")).toEqual(LEFT);
    const versions = (await bucket.versions()).filter(({ isMarker }) => !isMarker).map(({ key }) => key);
    expect(versions).toEqual(expect.arrayContaining([...LEFT, `main/backups/${OLD}/backup.json`]));
    expect(versions.filter((key) => key.startsWith("main/wal/"))).toHaveLength(8);
  });
});

const moto = await startS3("moto");

/** Three encrypted segments, and an archive that encrypts to another recipient. */
async function toRekey(store: Store): Promise<Archive> {
  const [former, next] = [await generateX25519Identity(), await generateX25519Identity()];
  const to = async (identity: string) => Recipients.of([await identityToRecipient(identity)]);
  const codec = new Codec({ recipients: await to(former), identities: new Identities([former]) });
  const archive = { ...(await emptyArchive(store)), codec };
  await putSegments(archive, 1, 1, 3);
  return { ...archive, codec: new Codec({ recipients: await to(next), identities: new Identities([former]) }) };
}

const REKEY = { isDry: false, jobs: 2 };

describe.skipIf(!moto.available)("a rekey under Object Lock", () => {
  test("keeps each object with its former header, hidden, and that is told", async () => {
    await using bucket = await lockedBucket(moto);
    await using store = closing(openStore(`${moto.urlOf(bucket.name)}&checksum=md5`, { env: moto.env }));
    const archive = await toRekey(store);
    expect(await rekeyArchive(archive, REKEY)).toMatchObject({ objects: 3, hidden: 3 });
    const versions = (await bucket.versions()).filter(({ key }) => key.startsWith("main/wal/"));
    expect(versions).toHaveLength(6);
    expect(await rekeyArchive(archive, REKEY)).toMatchObject({ objects: 0, already: 3, hidden: 0 });
  });
});

describe.skipIf(!s3.available)("a rekey on Ceph 16, which knows no If-Match where a bucket has versions", () => {
  test("is refused, and nothing is replaced", async () => {
    await using bucket = await lockedBucket(s3);
    await using store = closing(openStore(s3.urlOf(bucket.name), { env: s3.env }));
    const archive = await toRekey(store);
    const before = await bucket.versions();
    await expect(rekeyArchive(archive, REKEY)).rejects.toMatchObject({ code: "store-unsupported" });
    expect(await bucket.versions()).toEqual(before);
  });
});

function closing(store: Store): Store & AsyncDisposable {
  return Object.assign(store, { [Symbol.asyncDispose]: async () => store.close() });
}

interface Version {
  readonly key: string;
  readonly id: string;
  readonly isMarker: boolean;
}

/** A bucket that locks every object for a day, though not against those who may bypass it. */
async function lockedBucket(
  s3: S3Server,
): Promise<AsyncDisposable & { readonly name: string; readonly versions: () => Promise<Version[]> }> {
  const Bucket = `seawall-test-${randomBytes(6).toString("hex")}`;
  await s3.client.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: true }));
  const Rule = { DefaultRetention: { Mode: "GOVERNANCE", Days: 1 } } as const;
  const ObjectLockConfiguration = { ObjectLockEnabled: "Enabled", Rule } as const;
  await s3.client.send(new PutObjectLockConfigurationCommand({ Bucket, ObjectLockConfiguration }));
  const versions = async (): Promise<Version[]> => {
    const { Versions = [], DeleteMarkers = [] } = await s3.client.send(new ListObjectVersionsCommand({ Bucket }));
    const of = (isMarker: boolean) => (entry: { Key?: string | undefined; VersionId?: string | undefined }) => ({
      ...{ key: entry.Key ?? "", id: entry.VersionId ?? "", isMarker },
    });
    return [...Versions.map(of(false)), ...DeleteMarkers.map(of(true))];
  };
  return {
    name: Bucket,
    versions,
    [Symbol.asyncDispose]: async () => {
      for (const { key, id } of await versions()) {
        const bypass = { BypassGovernanceRetention: true };
        await s3.client.send(new DeleteObjectCommand({ Bucket, Key: key, VersionId: id, ...bypass }));
      }
      await s3.client.send(new DeleteBucketCommand({ Bucket }));
    },
  };
}
