/**
 * The table of S3 rights: what each command asks of a bucket, and ready-made policies by role. docs/s3-rights.md is made from
 * it, and a test runs each command with exactly these rights, and with each one missing. Pure.
 */
import type { CommandName } from "../config/options.ts";

export type S3Action =
  "s3:AbortMultipartUpload" | "s3:DeleteObject" | "s3:GetObject" | "s3:ListBucket" | "s3:PutObject";

export interface S3Right {
  readonly action: S3Action;
  /** Keys below the store's prefix; `CLUSTER` stands for the cluster's name. For a listing, the prefixes that are listed. */
  readonly on: string;
  /** When the right is used. Undefined: in every run, which fails without it. */
  readonly when?: string;
}

const all = "CLUSTER/*";
/** Generation 2 and later ones. */
const LATER = "CLUSTER@*/*";
export const EMPTY = "the archive has not begun";
const READS: readonly S3Right[] = [
  { action: "s3:ListBucket", on: all },
  { action: "s3:GetObject", on: all },
  // A second generation without the first one is an incomplete copy (archive/generations.ts, refuseHollow).
  { action: "s3:ListBucket", on: "CLUSTER@2/cluster.json", when: EMPTY },
];

function put(...places: readonly string[]): S3Right[] {
  return places.map((place) => ({ action: "s3:PutObject", on: `CLUSTER/${place}` }));
}

function sometimes(action: S3Action, when: string, ...places: readonly string[]): S3Right[] {
  return places.map((place) => ({ action, on: `CLUSTER/${place}`, when }));
}

const CHECKS: readonly S3Right[] = [...READS, ...put("probe/*"), { action: "s3:DeleteObject", on: "CLUSTER/probe/*" }];
/** Where the receiver stores WAL; `wal-push` and `backup --with-wal` store it there too. */
const STORES_WAL = put("cluster.json", "wal/*");
export const WITH_WAL = "with `--with-wal`";
/** Whether one run uses these depends on the moment. */
export const AS_RECEIVE = "with `--with-wal`, as `receive` does";
export const UNRECORDED = "without it the result is not recorded";
export const UNENDED = "with `--force`, when the older generation does not end with the shutdown of its server";
export const ABSENT = "the file is not there, as at the end of the archive, or it is fetched by hand";
export const NEW_RECIPIENTS = "with `--encrypt-to`, when its recipients are new to the archive";
export const EXPIRES = "a backup expires meanwhile";
export const LARGE_PART = "a part is larger than 8 MiB";
/** One writer at a time completes a large object: src/store/s3/claim.ts. */
const CLAIMS = "~claims/CLUSTER/*";
const WAL_WAS_LOST = "WAL was lost or does not verify";

export const S3_RIGHTS: Readonly<Partial<Record<CommandName, readonly S3Right[]>>> = {
  receive: [
    ...READS,
    ...STORES_WAL,
    ...put("tail/*"),
    ...sometimes("s3:PutObject", "the archive begins, or its line moves to another timeline", "line/*"),
    ...sometimes("s3:PutObject", NEW_RECIPIENTS, "encryption/*"),
    ...sometimes("s3:PutObject", WAL_WAS_LOST, "breaks/*", "evidence/*", "gaps/*"),
    ...sometimes("s3:PutObject", "with schedules or notifications", "notices/*", "runs/*"),
    ...sometimes("s3:DeleteObject", "a segment has replaced chunks; without it they stay", "tail/*"),
    ...sometimes("s3:DeleteObject", "with schedules or notifications", "notices/*", "runs/*"),
  ],
  "wal-push": [
    ...READS,
    ...STORES_WAL,
    ...sometimes("s3:PutObject", "with `--take-over`", "line/*"),
    ...sometimes("s3:PutObject", NEW_RECIPIENTS, "encryption/*"),
    ...sometimes("s3:PutObject", "`wal_level` was lowered", "breaks/*"),
  ],
  import: [
    ...READS,
    ...STORES_WAL,
    ...sometimes("s3:PutObject", "the source lacks WAL, or has WAL older than the archive's", "gaps/*"),
    ...sometimes("s3:PutObject", NEW_RECIPIENTS, "encryption/*"),
    ...sometimes("s3:DeleteObject", "it brings WAL of a recorded gap", "gaps/*"),
    ...sometimes("s3:PutObject", "`wal_level` was lowered", "breaks/*"),
  ],
  check: CHECKS,
  // With --backup it runs `backup --with-wal`, which has a row of its own.
  init: CHECKS,
  status: READS,
  backup: [
    ...READS,
    ...put("backups/*"),
    ...sometimes("s3:PutObject", WITH_WAL, "cluster.json", "wal/*"),
    ...sometimes("s3:PutObject", NEW_RECIPIENTS, "encryption/*"),
    ...sometimes("s3:PutObject", AS_RECEIVE, "breaks/*", "gaps/*", "line/*", "tail/*"),
    ...sometimes("s3:DeleteObject", "the backup fails; without it its parts stay", "backups/*"),
    ...sometimes("s3:DeleteObject", AS_RECEIVE, "tail/*"),
    { action: "s3:PutObject", on: CLAIMS, when: LARGE_PART },
    { action: "s3:GetObject", on: CLAIMS, when: "another writer stores the same part" },
    { action: "s3:DeleteObject", on: CLAIMS, when: "without it claims stay" },
    ...sometimes("s3:AbortMultipartUpload", "an upload fails; without it its parts stay", "backups/*"),
  ],
  list: READS,
  show: READS,
  verify: [
    ...READS,
    ...sometimes("s3:PutObject", UNRECORDED, "verify/*"),
    ...sometimes("s3:DeleteObject", "without it older results stay", "verify/*"),
  ],
  pin: [...READS, ...put("pins/*"), ...sometimes("s3:DeleteObject", "the backup was pinned before", "pins/*")],
  unpin: [...READS, { action: "s3:DeleteObject", on: "CLUSTER/pins/*" }],
  expire: [
    ...READS,
    ...removes("wal/*"),
    ...sometimes("s3:DeleteObject", "WAL was lost or never sealed", "tail/*", "gaps/*"),
  ],
  delete: [...READS, ...removes()],
  rekey: [
    ...READS,
    ...put("backups/*", "wal/*"),
    ...sometimes("s3:PutObject", "a timeline has ended in chunks, or there is evidence", "tail/*", "evidence/*"),
    ...sometimes("s3:DeleteObject", EXPIRES, "backups/*"),
    ...sometimes("s3:AbortMultipartUpload", "replacing an object of more than 32 MiB fails", "backups/*", "wal/*"),
  ],
  "cluster remove": [...READS, ...put("expiring/*", "probe/*"), { action: "s3:DeleteObject", on: all }],
  "cluster allow-plain": [...READS, ...put("encryption/*")],
  "cluster upgrade": [
    ...READS,
    { action: "s3:ListBucket", on: LATER },
    { action: "s3:GetObject", on: LATER },
    { action: "s3:PutObject", on: "CLUSTER@*/cluster.json" },
    { action: "s3:PutObject", on: "CLUSTER@*/encryption/*", when: "the archive is encrypted" },
    ...put("generations/*"),
    ...sometimes("s3:PutObject", UNENDED, "probe/*"),
    ...sometimes("s3:DeleteObject", UNENDED, "probe/*"),
  ],
  restore: READS,
  "wal-fetch": [
    { action: "s3:ListBucket", on: all, when: ABSENT },
    { action: "s3:GetObject", on: all },
  ],
  drill: [
    ...READS,
    ...sometimes("s3:PutObject", UNRECORDED, "drills/*"),
    ...sometimes("s3:DeleteObject", "there are more than 50 results", "drills/*"),
  ],
};

function removes(...wal: readonly string[]): S3Right[] {
  return [
    ...put("expiring/*"),
    { action: "s3:DeleteObject", on: "CLUSTER/backups/*" },
    ...wal.map((place): S3Right => ({ action: "s3:DeleteObject", on: `CLUSTER/${place}` })),
    ...sometimes("s3:DeleteObject", "the backup was pinned", "pins/*"),
    ...sometimes("s3:DeleteObject", "without it marks stay", "expiring/*"),
  ];
}

export interface S3Role {
  readonly name: string;
  readonly does: string;
  readonly commands: readonly CommandName[];
}

export const S3_ROLES: readonly S3Role[] = [
  { name: "receiver", does: "archives WAL", commands: ["init", "check", "receive", "wal-push", "status"] },
  {
    name: "keeper",
    does: "takes backups, verifies, drills and expires",
    commands: ["backup", "verify", "drill", "expire", "delete", "pin", "unpin", "list", "show", "status"],
  },
  { name: "import", does: "brings in WAL that another tool has archived", commands: ["import"] },
  { name: "removal", does: "removes a whole cluster", commands: ["cluster remove"] },
  {
    name: "upgrade",
    does: "declares an upgraded server, lets plain data into an encrypted archive",
    commands: ["cluster upgrade", "cluster allow-plain"],
  },
  { name: "rekey", does: "encrypts an archive to other recipients", commands: ["rekey"] },
  { name: "restorer", does: "brings a cluster back", commands: ["restore", "wal-fetch", "list", "show"] },
  { name: "read-only", does: "looks", commands: ["list", "show", "status", "verify"] },
];

export interface PolicyStatement {
  readonly Effect: "Allow";
  readonly Action: readonly S3Action[];
  readonly Resource: readonly string[];
  readonly Condition?: { readonly StringLike: { readonly "s3:prefix": readonly string[] } };
}

export interface S3Place {
  readonly bucket: string;
  /** The path in the store's URL; may be empty. */
  readonly prefix: string;
  readonly cluster: string;
}

/** An identity's policy: rights of the same action and places share a statement. */
export function policyOf(rights: readonly S3Right[], { bucket, prefix, cluster }: S3Place): PolicyStatement[] {
  const arn = `arn:aws:s3:::${bucket}`;
  const base = prefix === "" ? "" : `${prefix}/`;
  const actions = [...new Set(rights.map(({ action }) => action))];
  return actions.map((action) => {
    const own = rights.filter((right) => right.action === action);
    const keys = [...new Set(own.map(({ on }) => base + on.replace("CLUSTER", cluster)))];
    const places = keys.filter((key) => !keys.some((other) => other !== key && covers(other, key)));
    const common = { Effect: "Allow", Action: [action] } as const;
    if (action === "s3:ListBucket")
      return { ...common, Resource: [arn], Condition: { StringLike: { "s3:prefix": places } } };
    return { ...common, Resource: places.map((place) => `${arn}/${place}`) };
  });
}

function covers(pattern: string, place: string): boolean {
  return pattern.endsWith("*") && place.startsWith(pattern.slice(0, -1));
}

export function rightsOfRole({ commands }: S3Role): S3Right[] {
  // A verification by the role that only looks is not recorded: the role writes nothing.
  const isReading = commands.every((command) => !(S3_RIGHTS[command] ?? []).some(isNeededToWrite));
  const rights = commands.flatMap((command) => S3_RIGHTS[command] ?? []);
  return isReading ? rights.filter(({ action }) => action === "s3:GetObject" || action === "s3:ListBucket") : rights;
}

function isNeededToWrite({ action, when }: S3Right): boolean {
  return when === undefined && action !== "s3:GetObject" && action !== "s3:ListBucket";
}
