/** What can happen to an archive, and what a verification is to say of it. */
import { crc32c } from "@node-rs/crc32";
import { type BackupDocument, encodeBackup } from "../../src/archive/backups/document.ts";
import { encodeGap } from "../../src/archive/documents.ts";
import {
  backupDocumentKey,
  backupManifestKey,
  backupPartKey,
  backupPartName,
  gapKey,
  segmentKey,
  tailsPrefix,
} from "../../src/archive/keys.ts";
import { isEncryptedRun } from "../harness/encryption.ts";
import type { Store } from "../../src/store/store.ts";
import { formatLsn, type SegmentNumber, segmentEnd, segmentOf, segmentStart } from "../../src/wal/lsn.ts";
import { keysBelow } from "../store/keys-below.ts";
import { flipped, type RealArchive, reencoded, replace } from "./damaged.ts";

const MIB = 1 << 20;

export interface Damage {
  readonly name: string;
  readonly damage: (store: Store) => Promise<void>;
  /** Found by listing and the fronts of objects; otherwise only with --deep. */
  readonly shallow: boolean;
  readonly finds: () => readonly (readonly [kind: string, object: string, message: RegExp])[];
}

export interface Places {
  readonly first: () => BackupDocument;
  readonly second: () => BackupDocument;
  /** The first backup's first part. */
  readonly part: () => string;
  readonly keyOf: (segment: number) => string;
  /** A segment behind the first backup's end, before the second one's start. */
  readonly between: () => SegmentNumber;
}

export function placesOf(real: () => RealArchive): Places {
  const first = (): BackupDocument => real().backups[0];
  return {
    first,
    second: () => real().backups[1],
    part: () => backupPartKey("main", first().id, backupPartName(1)),
    keyOf: (segment) =>
      segmentKey("main", { timeline: first().timeline, segment: segment as SegmentNumber, segmentSize: MIB }),
    between: () => (segmentOf(first().stopLsn, MIB) + 2) as SegmentNumber,
  };
}

export function damagesOf({ first, second, part, keyOf, between }: Places): Damage[] {
  const startOf = (segment: SegmentNumber): string => formatLsn(segmentStart(segment, MIB));
  const shortReach = (): string => `backup ${first().id} cannot reach past ${startOf(between())}`;
  const dead = (id: string): RegExp => new RegExp(`backup ${id} cannot be restored$`);
  return [
    {
      name: "a missing segment",
      damage: async (store) => store.delete([keyOf(between())]),
      shallow: true,
      finds: () => [["missing-wal", keyOf(between()), new RegExp(`is missing from the archive: ${shortReach()}$`)]],
    },
    {
      name: "two segments missing, of which a backup needs the first",
      damage: async (store) => {
        const segment = segmentOf(second().startLsn, MIB);
        await store.delete([keyOf(segment), keyOf(segment + 1)]);
      },
      shallow: true,
      finds: () => {
        const segment = segmentOf(second().startLsn, MIB);
        const message = `, and 1 after it: ${second().id} cannot be restored; backup ${first().id} cannot reach past ${startOf(segment)}$`;
        return [
          ["unrestorable-backup", second().id, /WAL between its start and its end is not in the archive/],
          ["missing-wal", keyOf(segment), new RegExp(message)],
        ];
      },
    },
    {
      name: "a truncated segment",
      damage: async (store) => replace(store, keyOf(between()), (body) => body.subarray(0, body.length - 100)),
      shallow: true,
      finds: () => [["damaged-wal", keyOf(between()), new RegExp(`bytes, \\d+ were stored: ${shortReach()}$`)]],
    },
    {
      name: "an empty segment",
      damage: async (store) => replace(store, keyOf(between()), () => Buffer.alloc(0)),
      shallow: true,
      finds: () => [["damaged-wal", keyOf(between()), /only 0 bytes long/]],
    },
    {
      name: "a flipped bit in a segment",
      damage: async (store) => replace(store, keyOf(between()), (body) => flipped(body, body.length >> 1)),
      // An identity opens the envelope together with the first 64 KiB, which are more than these segments have.
      shallow: isEncryptedRun,
      finds: () => [["damaged-wal", keyOf(between()), new RegExp(`: ${shortReach()}$`)]],
    },
    {
      name: "a record that was changed, with every checksum of ours made right",
      damage: async (store) =>
        replace(store, keyOf(between()), (body) => reencoded(body, { raw: (raw) => flipped(raw, 700_001) })),
      shallow: false,
      finds: () => [["damaged-wal", keyOf(between()), new RegExp(`CRC-32C is wrong.*: ${shortReach()}$`)]],
    },
    {
      name: "a segment of a foreign cluster",
      damage: async (store) =>
        replace(store, keyOf(between()), (body) => reencoded(body, { meta: { systemIdentifier: "12345" } })),
      shallow: true,
      finds: () => [["foreign-wal", keyOf(between()), /holds WAL of system identifier 12345: /]],
    },
    {
      name: "a segment under another one's name",
      damage: async (store) => {
        const other = await store.get(keyOf(between() + 1));
        await replace(store, keyOf(between()), () => other?.body ?? Buffer.alloc(0));
      },
      shallow: true,
      finds: () => [["damaged-wal", keyOf(between()), /holds segment [0-9A-F]{24}: /]],
    },
    {
      name: "a partial under the name of a segment",
      damage: async (store) =>
        replace(store, keyOf(between()), (body) => reencoded(body, { meta: { kind: "partial" } })),
      shallow: true,
      finds: () => [["damaged-wal", keyOf(between()), /says that it is a partial/]],
    },
    {
      name: "a damaged chunk of the open segment",
      damage: async (store) => {
        const [chunk = ""] = await keysBelow(store, tailsPrefix("main"));
        await replace(store, chunk, (body) => flipped(body, body.length - 10));
      },
      shallow: true,
      finds: () => [["damaged-wal", "main/tail/", /2 backups, up to .*, cannot reach past/]],
    },
    {
      name: "a gap that a newer backup covers",
      damage: async (store) => {
        const [from, to] = [segmentStart(between(), MIB), segmentEnd(between(), MIB)];
        await store.delete([keyOf(between())]);
        const gap = {
          timeline: first().timeline,
          fromLsn: from,
          toLsn: to,
          detectedAt: "2026-11-22",
          reason: "slot lost",
        };
        await store.put(gapKey("main", gap.timeline, from, to), encodeGap(gap));
      },
      shallow: true,
      finds: () => [],
    },
    {
      name: "a gap that a newer backup does not cover, because its own WAL is missing",
      damage: async (store) => {
        const segment = segmentOf(second().startLsn, MIB);
        const [from, to] = [segmentStart(between(), MIB), segmentEnd(between(), MIB)];
        await store.delete([keyOf(between()), keyOf(segment)]);
        const gap = { timeline: first().timeline, fromLsn: from, toLsn: to };
        const facts = { detectedAt: "2026-11-22", reason: "slot lost" };
        await store.put(gapKey("main", gap.timeline, from, to), encodeGap({ ...gap, ...facts }));
      },
      shallow: true,
      finds: () => {
        const segment = segmentOf(second().startLsn, MIB);
        return [
          ["unrestorable-backup", second().id, /WAL between its start and its end is not in the archive/],
          ["gap", keyOf(between()), new RegExp(`lost before it was archived: slot lost: ${shortReach()}$`)],
          ["missing-wal", keyOf(segment), new RegExp(`${second().id} cannot be restored`)],
        ];
      },
    },
    {
      name: "a missing part",
      damage: async (store) => store.delete([part()]),
      shallow: true,
      finds: () => [["damaged-backup", part(), /is missing: /]],
    },
    {
      name: "a truncated part",
      damage: async (store) => replace(store, part(), (body) => body.subarray(0, body.length - 1)),
      shallow: true,
      finds: () => [["damaged-backup", part(), dead(first().id)]],
    },
    {
      name: "a flipped bit in a part",
      damage: async (store) => replace(store, part(), (body) => flipped(body, body.length >> 1)),
      shallow: false,
      finds: () => [["damaged-backup", part(), /CRC-32C is wrong: /]],
    },
    {
      name: "another backup's manifest, with the document made to agree",
      damage: async (store) => {
        const other = await store.get(backupManifestKey("main", second().id));
        const body = Buffer.from(other?.body ?? "");
        await replace(store, backupManifestKey("main", first().id), () => body);
        const manifest = {
          name: "backup_manifest",
          bytes: body.length,
          crc32c: crc32c(body),
          algorithm: "CRC32C",
        } as const;
        await replace(store, backupDocumentKey("main", first().id), () => encodeBackup({ ...first(), manifest }));
      },
      shallow: false,
      finds: () => [["damaged-backup", backupManifestKey("main", first().id), /and the index differ on /]],
    },
    {
      name: "a damaged backup document",
      damage: async (store) => replace(store, backupDocumentKey("main", second().id), () => Buffer.from("{")),
      shallow: true,
      finds: () => [["damaged-backup", second().id, /is not JSON: /]],
    },
    {
      name: "a damaged timeline history",
      damage: async (store) => void (await store.put("main/wal/00000002.history", Buffer.from("nonsense\n"))),
      shallow: true,
      finds: () => [["damaged-document", "main/wal/00000002.history", /history of timeline 2, line 1/]],
    },
  ];
}
