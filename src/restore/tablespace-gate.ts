/**
 * The gate before replay: every archived record passes wal-fetch on its way into a server, and one that creates a tablespace
 * would make that server write into the directory it names, which may be the living primary's. What the restore has given a
 * place of its own goes there: the record is handed out with an empty path, and a link lies where replay looks. A record
 * whose directory is the server's own is handed out as it is. Everything else stops recovery before it does harm.
 *
 * docs/recovery.md, "Tablespaces that WAL creates", says why.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, readlink, symlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { assertNever, errnoOf, SeawallError } from "../errors.ts";
import { bytesBetween, type Lsn, segmentStart, type SegmentNumber } from "../wal/lsn.ts";
import { emptyLocation } from "../wal/empty-location.ts";
import type { TablespaceCreated, WalChange } from "../wal/wal-changes.ts";
import { parsePromise, PROMISE_FILE, type RestorePromise } from "./marker.ts";
import { readIfThere } from "./target-dir.ts";

/** The facts that decide about a record that creates a tablespace. */
export interface GateFacts {
  /** The directory that the restore gave it; in a drill also for one that the restore did not know. */
  readonly place: string | undefined;
  /** Where pg_tblspc/<OID> leads: made by the restore, an operator, or an earlier replay. Its own path for a directory. */
  readonly link: string | undefined;
  /** Recovery ends before this record. */
  readonly isBeyondTarget: boolean;
  /** A standby, or a server that no restore made: its operator has prepared the directory, as PostgreSQL demands. */
  readonly isPrepared: boolean;
  /** True when the directory that the record names exists and is empty. */
  readonly isEmptyDirectory: boolean;
}

/**
 * `as-is`: the directory is the server's own. `emptied`: with a link to `place`, or what lies at pg_tblspc/<OID> already.
 * `refused`: replay would write into a directory that may be another server's.
 */
export type Passage =
  | { readonly kind: "as-is" }
  | { readonly kind: "emptied"; readonly place: string | undefined }
  | { readonly kind: "refused" };

/** Pure. */
export function decidePassage({ location }: Pick<TablespaceCreated, "location">, facts: GateFacts): Passage {
  const { place, link, isBeyondTarget, isPrepared, isEmptyDirectory } = facts;
  if (location === "") return { kind: "as-is" };
  if (isBeyondTarget) return { kind: "emptied", place: undefined };
  if (place !== undefined) return place === location ? { kind: "as-is" } : { kind: "emptied", place };
  if (link !== undefined) return link === location ? { kind: "as-is" } : { kind: "emptied", place: undefined };
  return isPrepared && isEmptyDirectory ? { kind: "as-is" } : { kind: "refused" };
}

/** A segment as it would be handed out, and what its records change. */
export interface SegmentAtGate {
  readonly segment: SegmentNumber;
  readonly segmentSize: number;
  readonly content: Uint8Array;
  readonly changes: readonly WalChange[];
}

export class TablespaceGate {
  readonly #dataDir: string;
  readonly #promise: RestorePromise | undefined;
  readonly #isStandby: boolean;

  private constructor(dataDir: string, promise: RestorePromise | undefined) {
    this.#dataDir = dataDir;
    this.#promise = promise;
    this.#isStandby = existsSync(join(dataDir, "standby.signal"));
  }

  /** Whether a server in recovery asks for `target`, rather than a person. Also true in single-user mode. */
  static isBefore(target: string): boolean {
    return basename(dirname(target)) === "pg_wal" && basename(target) === "RECOVERYXLOG";
  }

  /** For the server that asks for `target`: `<data directory>/pg_wal/RECOVERYXLOG`. */
  static async before(target: string): Promise<TablespaceGate> {
    const dataDir = dirname(dirname(target));
    const path = join(dataDir, PROMISE_FILE);
    const bytes = await readIfThere(path);
    return new TablespaceGate(dataDir, bytes === undefined ? undefined : parsePromise(bytes, path));
  }

  /** Makes the links that replay needs. Returns the content, or a changed copy. Throws `tablespace-unmapped`. */
  async pass({ segment, segmentSize, content, changes }: SegmentAtGate): Promise<Uint8Array> {
    const start = segmentStart(segment, segmentSize);
    let changed: Uint8Array | undefined;
    for (const change of changes) {
      if (change.kind !== "tablespace-created") continue;
      const passage = decidePassage(change, await this.#factsOf(change));
      switch (passage.kind) {
        case "as-is":
          break;
        case "refused":
          throw this.#refusal(change);
        case "emptied": {
          const offset = bytesBetween(start, change.lsn);
          if (offset < 0) throw cutRefusal(change);
          changed ??= Uint8Array.from(content);
          emptyLocation(changed, offset);
          if (passage.place !== undefined) await this.#link(change.oid, passage.place);
          break;
        }
        default:
          assertNever(passage);
      }
    }
    return changed ?? content;
  }

  async #factsOf({ oid, location, lsn }: TablespaceCreated): Promise<GateFacts> {
    const promise = this.#promise;
    const isRecovering = !this.#isStandby && promise !== undefined;
    const isEndless = promise === undefined || promise.target.kind === "latest";
    const isPrepared = this.#isStandby || promise === undefined;
    return {
      place: this.#placeOf(oid),
      link: await this.#linkOf(oid),
      isBeyondTarget: isRecovering && !isEndless && lsn >= (promise.lsn satisfies Lsn),
      isPrepared,
      isEmptyDirectory: isPrepared && location !== undefined && (await isEmptyDirectory(location)),
    };
  }

  #placeOf(oid: number): string | undefined {
    const known = this.#promise?.tablespaces.find((tablespace) => tablespace.oid === oid)?.path;
    const others = this.#promise?.otherTablespaces;
    return known ?? (others === undefined ? undefined : join(others, `tablespace-${oid}`));
  }

  async #linkOf(oid: number): Promise<string | undefined> {
    const path = this.#pathOf(oid);
    const link = await readlink(path).catch(() => undefined);
    return link ?? (existsSync(path) ? path : undefined);
  }

  #pathOf(oid: number): string {
    return join(this.#dataDir, "pg_tblspc", String(oid));
  }

  /** A replayed DROP has removed the link, and a restart replays the creation again. */
  async #link(oid: number, place: string): Promise<void> {
    await mkdir(place, { recursive: true, mode: 0o700 });
    try {
      await symlink(place, this.#pathOf(oid));
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
    }
  }

  #refusal({ oid, location }: TablespaceCreated): SeawallError {
    const where = location ?? "a path that cannot be read";
    const mapping = `--tablespace-mapping ${oid}=DIRECTORY`;
    const link = `ln -s DIRECTORY ${this.#pathOf(oid)}`;
    return new SeawallError(
      "tablespace-unmapped",
      `the WAL creates tablespace ${oid} at ${where}, which may belong to another server`,
      {
        hint: `Make an empty directory for it and a link to it (${link}) and start the server again; or restore again with ${mapping}.`,
      },
    );
  }
}

/** wal-fetch hands out one segment at a time, and the record's CRC-32C covers both. */
function cutRefusal({ oid, location }: TablespaceCreated): SeawallError {
  return new SeawallError(
    "tablespace-unmapped",
    `the record that creates tablespace ${oid} at ${location ?? "an unknown path"} lies across two segments and cannot be mapped`,
    { hint: "Take a new base backup, or recover to a point before it." },
  );
}

async function isEmptyDirectory(path: string): Promise<boolean> {
  try {
    return (await readdir(path)).length === 0;
  } catch {
    return false;
  }
}
