/**
 * The files that mutation testing changes, room by room, each with the fast tests that have to notice. A file of these rooms
 * is either mutated or left out with the reason in a word: `test/mutation/files.test.ts` holds that.
 */

export interface MutationRoom {
  /**
   * A file's path below `src/<room>`, without `.ts` → its tests below `test/<room>`, or below `test` with a slash in the
   * name, without `.test.ts`. They start neither a PostgreSQL server, an S3 server nor a child process.
   */
  readonly mutated: Readonly<Record<string, readonly string[]>>;
  /** File name → why its mutants are not made; or one reason for every other file of the room. */
  readonly leftOut: Readonly<Record<string, string>> | string;
}

export type RoomName = "wal" | "codec" | "archive" | "receive" | "restore" | "store";

const EXPIRY = ["expire", "expire-marks", "expire-protection", "expire-wal"];
const VERIFIER = ["verifier", "verifier-refusals", "carry", "discontinuity", "page-header", "summary", "wal-changes"];

export const MUTATION_ROOMS: Readonly<Record<RoomName, MutationRoom>> = {
  wal: {
    mutated: {
      "carry-without-content": ["carry"],
      crc32c: ["crc32c"],
      "empty-location": ["empty-location"],
      "first-page": ["first-page"],
      format: ["format"],
      lsn: ["lsn"],
      names: ["names"],
      overwrite: ["overwrite"],
      "page-header": ["page-header"],
      "partial-record": ["partial-record", "newer-version"],
      "pg-control": ["pg-control"],
      "prev-chain": ["prev-chain"],
      "record-facts": ["record-facts"],
      summary: ["summary", "wal-changes"],
      timeline: ["timeline"],
      verifier: VERIFIER,
      "wal-changes": ["wal-changes"],
    },
    leftOut: { "record-carry": "types", "system-identifier": "one line" },
  },
  codec: {
    mutated: {
      "age/clear-envelope": ["codec/age/object"],
      "age/header": ["codec/age/object", "codec/age/vectors"],
      "age/payload": ["codec/age/object", "codec/age/vectors"],
      "age/rekey": ["codec/age/rekey"],
      "age/stored-sum": ["codec/age/rekey"],
      envelope: ["envelope"],
      level: ["level"],
      "crc32c-pieces": ["checksum-pieces"],
      "frame-split": ["frame-split"],
      "frame-walk": ["frame-walk"],
      "plain-writer": ["plain-writer"],
      tar: ["tar-headers"],
      "tar-reader": ["tar-headers"],
      "tar-writer": ["tar-headers"],
    },
    leftOut: {
      ...{
        ...{ "age/digest": "libraries", "age/identities": "library", "age/recipients": "library" },
        ...{ "age/open": "library", "age/seal": "library" },
        checksum: "libraries",
        codec: "hands on",
        frame: "library",
        inflate: "library",
        object: "library",
        "seal-frames": "hands on",
        unzstd: "library",
        foreign: "libraries",
        ...{
          zstd: "types and one formula",
          "zstd-of-thread": "libraries",
          "zstd-native": "library",
          "zstd-node": "library",
        },
      },
      ...{ "frame-slots": "threads", frames: "threads", pool: "threads", worker: "threads" },
    },
  },
  archive: {
    mutated: {
      "backups/manifest": ["backup-manifest"],
      "backups/list": ["backups"],
      "backups/named": ["named"],
      "wal/breaks": ["breaks"],
      "retention/bulk-delete": ["bulk-delete"],
      "retention/belongings": ["belongings"],
      "retention/removal": ["removal", "belongings"],
      "wal/change-json": ["change-json"],
      documents: ["documents"],
      encryption: ["encrypted"],
      "retention/unneeded-wal": ["doomed-wal"],
      "retention/expire": EXPIRY,
      "retention/marks": [...EXPIRY, "pins"],
      "retention/expiry-plan": ["expiry-plan"],
      "wal/gaps": ["gaps"],
      "wal/holes": ["hole"],
      "wal/known-records": ["known-records"],
      "json-document": ["documents", "json-document"],
      keys: ["keys"],
      generations: ["generations"],
      successor: ["generations"],
      "store-clock": ["store-clock"],
      "retention/newer": ["retention-newer"],
      "line/claims": ["line", "line-claims"],
      "backups/pins": ["pins"],
      "retention/protection": ["protection", "expire-protection"],
      "wal/put-gap": ["gaps"],
      "put-once": ["put-once"],
      "retention/plan": ["retention", "retention-borders", "retention-wal"],
      "retention/keep": ["retention", "retention-borders", "retention-newer"],
      "retention/wal": ["retention-borders", "retention-wal", "retention-newer"],
      "line/rivals": ["line", "line-rivals"],
      "wal/comparable-tail": ["encrypted"],
      "verify/encrypted-stretches": ["encrypted"],
      "wal/tail": ["tail", "tail-readers", "encrypted"],
      "wal/tail-pieces": ["tail", "tail-readers", "encrypted"],
      "catalog/timeline-tree": ["timeline-tree"],
      "wal/tip": ["tip", "tip-store", "line"],
      "wal/reach": ["wal-reach", "tail", "tip-store"],
      "wal/path": ["wal-path"],
      "wal/stored-at": ["stored-at"],
      "catalog/settled-ends": ["settled-ends"],
      "catalog/windows": ["windows", "cover"],
      "catalog/cover": ["cover"],
    },
    leftOut: {
      ...{
        archive: "store",
        identity: "store",
        rekey: "store",
        "backups/document": "store",
        "backups/encrypted-to": "store",
        "backups/index": "store",
        "backups/parts": "store",
        "backups/uploads": "store",
        "backups/stored-data": "store",
        "backups/stored-objects": "store",
        "backups/file-ledger": "threads",
        "backups/received-files": "memory",
        bounded: "store",
      },
      ...{
        "catalog/catalog": "store",
        "catalog/end-reads": "store",
        "catalog/older": "store",
        "records/drills": "store",
        "wal/finish-timeline": "store",
        "records/last-events": "store",
      },
      ...{
        "records/notices": "store",
        "wal/close-gaps": "store",
        "wal/whole-files": "store",
        "verify/part": "store",
        "backups/part-reader": "libraries",
        "records/records": "store",
        "records/runs": "store",
      },
      ...{
        "verify/backups": "store",
        "retention/model": "types",
        damage: "a line",
        "verify/facts": "types",
        "verify/questions": "threads",
        "verify/report": "texts",
      },
      ...{ "verify/state": "store", "verify/wal": "store", "verify/worker": "threads", "verify/verify": "store" },
      ...{ "wal/changes": "store", "wal/commits": "store", "wal/folders": "store", "wal/inventory": "store" },
      ...{ "wal/objects": "store", "wal/reader": "store", "wal/walk": "store" },
    },
  },
  receive: {
    mutated: {
      "commit-ages": ["decisions"],
      feedback: ["decisions", "feedback"],
      "journal/damage": ["journal-layout"],
      "journal/document": ["journal-layout"],
      "journal/layout": ["journal-layout"],
      ledger: ["decisions"],
      "line/decision": ["line-decision"],
      memory: ["memory"],
      reconnect: ["decisions"],
      retirement: ["retirement"],
      "ship-timer": ["ship-timer"],
      "slot-budget": ["slot-budget-decision"],
      "spool-room": ["spool-room"],
      "start-position": ["decisions"],
      "tail-merge": ["decisions"],
      "upload-failures": ["upload-failures"],
    },
    leftOut: {
      ...{ "archive-intake": "store", "archive-target": "store", intake: "types", source: "types", target: "types" },
      ...{
        assembler: "sockets",
        evidence: "store",
        gap: "store",
        options: "types",
        persist: "store",
      },
      "copy-object": "store",
      ...{ "old-spool": "store", "segment-buffer": "threads", "server-facts": "server", "store-behind": "store" },
      ...{ "journal/group": "files", "stream-verifier": "server" },
      ...{ "journal/back": "server", "journal/disk": "files", "journal/front": "server", "journal/histories": "files" },
      ...{ "journal/journal": "files", "journal/journal-intake": "files", "journal/journal-source": "files" },
      ...{ "journal/carries": "files", "journal/changes": "files", "journal/ends": "files", "journal/files": "files" },
      ...{ "journal/leftover": "store", "journal/room": "timers", "journal/verified-end": "files" },
      ...{
        shipper: "store",
        spool: "store",
        "spool-dir": "files",
        "spool-folder": "store",
        "spool-lock": "processes",
        status: "state",
        "store-waits": "state",
        "stream-wal": "server",
        "wal-push": "files",
      },
      ...{ "line/connect": "server", "line/watch": "timers" },
      ...{ "line/claim": "store", "server-stop": "server", "slot-release": "server" },
      ...{ "slot-advance": "server", "machine-load": "machine" },
      ...{ walreceiver: "server" },
    },
  },
  restore: {
    mutated: {
      "drill/isolation": ["isolation"],
      layout: ["layout"],
      "target/other-timelines": ["other-timelines"],
      "target/plan": ["plan"],
      "fetch/prefetch-plan": ["prefetch-plan"],
      "replayed-changes": ["replayed-changes"],
      "target/resolve": ["resolve"],
      "target/target": ["target"],
    },
    leftOut: {
      ...{ check: "files", "drill/binaries": "processes", "drill/checks": "processes", "drill/folder": "files" },
      ...{ "drill/client": "server", "drill/namespaces": "processes", "drill/program-places": "processes" },
      ...{ "new-file": "files", "server-account": "files", "start-effects": "texts" },
      ...{ "drill/server": "processes", "drill/drill": "processes", "extract-worker": "threads", extract: "threads" },
      ...{
        "disk-flush": "processes",
        finish: "files",
        "target/landing": "store",
        marker: "files",
        "part-writer": "files",
        stretch: "files",
      },
      ...{ "fetch/prefetch-folder": "files", "fetch/prefetch": "processes" },
      ...{
        "other-servers": "files",
        prepare: "files",
        "process-identity": "files",
        "recovery-config": "texts",
        "restore-command": "texts",
      },
      ...{ restore: "files", "server-run": "files", "standby-settings": "files", "target-dir": "files" },
      ...{ "tablespace-gate": "files", "tablespace-places": "files", "wal-dir": "files" },
      ...{ "fetch/wal-fetch": "store", "target/read-other-timelines": "store", "target/route": "store" },
    },
  },
  store: {
    mutated: { retry: ["retry", "retry-decorator"] },
    leftOut: "drivers",
  },
};

export const ROOM_NAMES = Object.keys(MUTATION_ROOMS).filter(isRoomName);

function isRoomName(text: string): text is RoomName {
  return Object.hasOwn(MUTATION_ROOMS, text);
}

export function mutatedFiles(room: RoomName): string[] {
  return Object.keys(MUTATION_ROOMS[room].mutated).map((name) => `src/${room}/${name}.ts`);
}

/** The test files of a mutated file; none for a file that is not mutated. */
export function testsOf(path: string): string[] {
  const [, room = "", name = ""] = /^src\/([^/]+)\/(.+)\.ts$/.exec(path) ?? [];
  if (!isRoomName(room)) return [];
  const tests = MUTATION_ROOMS[room].mutated[name] ?? [];
  return tests.map((test) => `test/${test.includes("/") ? test : `${room}/${test}`}.test.ts`);
}
