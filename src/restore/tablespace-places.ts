/**
 * Decides where tablespaces go: the backup's, and those that recovery creates. Each gets a directory that holds nothing
 * else, so that neither the restore nor the replay writes into another server's. Looks, and changes nothing.
 */
import { isAbsolute, join, resolve } from "node:path";
import type { BackupDocument } from "../archive/backups/document.ts";
import { SeawallError } from "../errors.ts";
import { formatLsn } from "../wal/lsn.ts";
import { linkedDir, otherServerUsing } from "./other-servers.ts";
import type { CreatedTablespace } from "./replayed-changes.ts";
import { shellWord } from "./restore-command.ts";
import { entriesOf, isInside, occupied, realpathOrSelf, type TargetDir } from "./target-dir.ts";

export interface PlaceOptions {
  readonly targetDir: string;
  readonly backup: BackupDocument;
  /** The tablespaces that recovery creates, in WAL order. */
  readonly created: readonly CreatedTablespace[];
  /** Old place or OID → new place. */
  readonly mapping: ReadonlyMap<string, string>;
  /** Where tablespaces go that recovery creates and the mapping does not name; undefined: where they were created. */
  readonly otherTablespaces: string | undefined;
  /** `--tablespaces-in-place`: the operator lets those that the mapping does not name go to the paths that the archive says. */
  readonly inPlace: boolean;
}

export interface TablespacePlaces {
  /** The backup's tablespaces. */
  readonly restored: readonly Place[];
  /** The tablespaces that recovery creates; empty directories when it starts. */
  readonly created: readonly Place[];
}

type Place = readonly [oid: number, directory: string];

/**
 * The places, if what lies there may be touched. Throws `usage`, `target-occupied`, `tablespace-unmapped`. A data directory
 * that is restored again keeps the places that its own links name.
 */
export async function inspectTablespaces(
  target: TargetDir,
  options: Omit<PlaceOptions, "targetDir">,
): Promise<TablespacePlaces> {
  const places = await placeTablespaces({ ...options, targetDir: target.path });
  const seen = new Set<string>();
  for (const [oid, directory] of [...places.restored, ...places.created]) {
    const path =
      options.backup.tablespaces.find((one) => one.oid === oid)?.path ??
      options.created.find((one) => one.oid === oid)?.location ??
      String(oid);
    // Another tablespace of this restore has it before, and leaves it empty.
    if (!seen.has(directory)) await refuseOccupied(target, { oid, path, directory });
    seen.add(directory);
  }
  const linked = target.isEmpty
    ? new Set<string>()
    : await linksOf(target, [...options.backup.tablespaces, ...options.created]);
  refuseUnordered({ ...options, places, linked });
  return places;
}

/**
 * A path that only the archive names is not followed: who can write to the archive could have root give any empty directory
 * away. The operator says it, by a mapping or for all. Throws `tablespace-unmapped`.
 */
export function refuseUnordered(
  found: Omit<PlaceOptions, "targetDir"> & {
    readonly places: TablespacePlaces;
    /** Directories to which links of the data directory lead already. */
    readonly linked: ReadonlySet<string>;
  },
): void {
  const { backup, created, mapping, otherTablespaces, inPlace, places, linked } = found;
  if (inPlace) return;
  const isFree = (oid: number, path: string | undefined, directory: string): boolean =>
    !mapping.has(String(oid)) && (path === undefined || !mapping.has(path)) && !linked.has(directory);
  const unordered = [
    ...places.restored.map(([oid, directory]) => ({
      oid,
      directory,
      path: backup.tablespaces.find((one) => one.oid === oid)?.path,
    })),
    ...places.created.flatMap(([oid, directory]) => {
      const path = created.find((one) => one.oid === oid)?.location;
      return otherTablespaces === undefined ? [{ oid, directory, path }] : [];
    }),
  ].find(({ oid, path, directory }) => isFree(oid, path, directory));
  if (unordered === undefined) return;
  const { oid, path, directory } = unordered;
  throw new SeawallError(
    "tablespace-unmapped",
    `tablespace ${oid} would go to ${directory}, which only the archive names`,
    {
      hint: `Give it a place: ${mappingOption(oid, path ?? String(oid))}. --tablespaces-in-place lets every tablespace go where it was.`,
    },
  );
}

async function linksOf(target: TargetDir, tablespaces: readonly { readonly oid: number }[]): Promise<Set<string>> {
  const links = tablespaces.map(async ({ oid }) => {
    const linked = await linkedDir(target.path, join("pg_tblspc", String(oid)));
    return linked === undefined ? [] : [linked];
  });
  return new Set([...(await Promise.all(links)).flat(), ...(target.marker?.tablespaces ?? [])]);
}

/** The same from the mapping alone, without a look at the directories. Throws `usage`, `tablespace-unmapped`. */
export async function placeTablespaces(options: PlaceOptions): Promise<TablespacePlaces> {
  const { backup, mapping, otherTablespaces } = options;
  const created = options.created.filter(
    ({ oid, location }) => location !== "" && backup.tablespaces.every((tablespace) => tablespace.oid !== oid),
  );
  refuseUnknown(options, created);
  const restored: Place[] = [];
  for (const { oid, path } of backup.tablespaces) {
    const wanted = mapping.get(path) ?? mapping.get(String(oid)) ?? path;
    restored.push([oid, await placeFor(options, { oid, path, wanted }, restored)]);
  }
  const late: Place[] = [];
  for (const { oid, location, lsn } of created) {
    const mapped = (location === undefined ? undefined : mapping.get(location)) ?? mapping.get(String(oid));
    const other = otherTablespaces === undefined ? location : join(otherTablespaces, `tablespace-${oid}`);
    const wanted = mapped ?? other;
    if (wanted === undefined) throw unreadable(oid, formatLsn(lsn));
    // A directory may be used again by a tablespace that is created when the former one has been dropped.
    const shared = options.created.filter((one) => one.location === location).map((one) => one.oid);
    const former = backup.tablespaces.filter(({ path }) => path === location).map(({ oid: own }) => own);
    const others = [...restored, ...late].filter(([own]) => ![...shared, ...former].includes(own));
    const tablespace = { oid, path: location ?? String(oid), wanted };
    late.push([oid, await placeFor(options, tablespace, others)]);
  }
  refuseCut(options.created, new Map([...restored, ...late]));
  return { restored, created: late };
}

function refuseUnknown({ backup, mapping }: PlaceOptions, created: readonly CreatedTablespace[]): void {
  const all = [
    ...backup.tablespaces.map(({ oid, path }) => ({ oid, location: path, when: "" })),
    ...created.map(({ oid, location, lsn }) => ({ oid, location, when: `, created at ${formatLsn(lsn)}` })),
  ];
  const known = all.map(({ oid, location, when }) => `${location ?? "an unknown place"} (${oid}${when})`).join(", ");
  for (const old of mapping.keys()) {
    if (all.some(({ oid, location }) => old === location || old === String(oid))) continue;
    throw new SeawallError("usage", `--tablespace-mapping: the backup has no tablespace at ${old}`, {
      hint: known === "" ? `Backup ${backup.id} has no tablespaces.` : `It has ${known}.`,
    });
  }
}

interface Wanted {
  readonly oid: number;
  /** On the primary. */
  readonly path: string;
  readonly wanted: string;
}

async function placeFor({ targetDir }: PlaceOptions, tablespace: Wanted, others: readonly Place[]): Promise<string> {
  const { oid, path, wanted } = tablespace;
  if (!isAbsolute(wanted)) {
    throw new SeawallError("usage", `--tablespace-mapping: ${wanted} is not an absolute path`);
  }
  const directory = await realpathOrSelf(resolve(wanted));
  if (isInside(directory, targetDir) || isInside(targetDir, directory)) {
    throw new SeawallError("usage", `tablespace ${oid} would lie in the data directory, at ${directory}`, {
      hint: `Give it a place of its own: ${mappingOption(oid, path)}`,
    });
  }
  if (others.some(([, other]) => isInside(directory, other) || isInside(other, directory))) {
    throw new SeawallError("usage", `two tablespaces would lie in ${directory}`);
  }
  return directory;
}

/** A directory with files in it must be the one that this very data directory, or its unfinished restore, already uses. */
async function refuseOccupied(
  target: TargetDir,
  tablespace: { readonly oid: number; readonly path: string; readonly directory: string },
): Promise<void> {
  const { oid, path, directory } = tablespace;
  if ((await entriesOf(directory)).length === 0) return;
  const linked = await linkedDir(target.path, join("pg_tblspc", String(oid)));
  if (!target.isEmpty && (linked === directory || target.marker?.tablespaces.includes(directory) === true)) {
    await refuseOtherServer(target, tablespace);
    return;
  }
  throw occupied(
    `the directory of tablespace ${oid}, ${directory}, is not empty`,
    `Give it another place: ${mappingOption(oid, path)}`,
  );
}

/** A copied data directory has the links of its original: the restore would overwrite a running server's tablespace. */
async function refuseOtherServer(
  target: TargetDir,
  { oid, path, directory }: { readonly oid: number; readonly path: string; readonly directory: string },
): Promise<void> {
  const other = await otherServerUsing(directory, target.path);
  if (other === undefined) return;
  throw occupied(
    `${directory}, of tablespace ${oid}, is used by another data directory, ${other.dataDir}, in which process ${other.pid} runs`,
    `Give it another place: ${mappingOption(oid, path)}`,
  );
}

/** wal-fetch hands out one segment at a time: a record that lies in two keeps its path. */
function refuseCut(created: readonly CreatedTablespace[], places: ReadonlyMap<number, string>): void {
  for (const { oid, location, isCut, lsn } of created) {
    const place = places.get(oid);
    if (!isCut || place === undefined || place === location) continue;
    throw new SeawallError(
      "tablespace-unmapped",
      `the record that creates tablespace ${oid}, at ${formatLsn(lsn)}, lies across two segments: it cannot be mapped to ${place}`,
      { hint: "Take a new base backup, or recover to a point before it." },
    );
  }
}

function unreadable(oid: number, lsn: string): SeawallError {
  return new SeawallError("tablespace-unmapped", `the path of tablespace ${oid}, created at ${lsn}, cannot be read`, {
    hint: `Give it a place: --tablespace-mapping ${oid}=/an/empty/directory`,
  });
}

/**
 * An equals sign in a path stands behind a backslash there, and a shell wants that in quotes. A backslash at the end of the
 * path would hide the equals sign behind it, so the OID stands for such a path.
 */
export function mappingOption(oid: number, path: string): string {
  const old = path.endsWith("\\") ? String(oid) : path.replaceAll("=", "\\=");
  return `--tablespace-mapping ${shellWord(`${old}=/another/directory`)}`;
}
