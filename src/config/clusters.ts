/**
 * Several clusters in one file: the clusters that a command means, and settings that two clusters must not share. Pure.
 */
import { posix } from "node:path";
import { SeawallError } from "../errors.ts";
import type { FileEntry } from "./file.ts";
import { type CommandName, envName, OPTION_ROWS, OPTIONS, type SettingKey } from "./options.ts";
import { nearest } from "../suggest.ts";

/** A value and where it stands. */
export interface Given {
  readonly place: string;
  readonly value: unknown;
}

/** The values that one source of options gives. */
export type Layer = ReadonlyMap<SettingKey, Given>;

/** The part of the file that belongs to one cluster. */
export interface ClusterLayer {
  readonly name: string;
  readonly place: string;
  readonly values: Layer;
}

/** The first layer that has a value gives it. */
export function layered(layers: readonly Layer[]): Layer {
  return new Map([...layers].reverse().flatMap((layer) => [...layer]));
}

/** Commands that work on all clusters when none is named. */
const ON_ALL: readonly CommandName[] = ["receive", "status"];

/** The name that was asked for; undefined with --all. Throws `usage` when both were given. */
export function askedCluster(all: Given | undefined, cluster: Given | undefined): Given | undefined {
  if (all === undefined || cluster === undefined) return cluster;
  throw new SeawallError("usage", `${all.place} and ${cluster.place} exclude each other`, {
    hint: `Leave ${all.place} out for the cluster "${String(cluster.value)}", or ${cluster.place} for every cluster.`,
  });
}

/** The clusters that the command works on: the one that is asked for, or all. Throws `usage` where that is not clear. */
export function chooseClusters(
  clusters: readonly ClusterLayer[],
  { asked, all }: { readonly asked: Given | undefined; readonly all: boolean },
  command: CommandName,
): readonly ClusterLayer[] {
  const names = clusters.map(({ name }) => name);
  if (asked !== undefined) {
    // One generation of it may be meant.
    const [cluster = ""] = String(asked.value).split("@");
    const found = clusters.find(({ name }) => name === cluster);
    if (found !== undefined) return [found];
    const near = nearest(String(asked.value), names);
    throw new SeawallError("usage", `${asked.place}: the file has no cluster "${String(asked.value)}"`, {
      hint: near === undefined ? `There is ${listed(names)}.` : `Did you mean ${near}? There is ${listed(names)}.`,
    });
  }
  if (all || clusters.length === 1 || ON_ALL.includes(command)) return clusters;
  const orAll = OPTIONS.all.commands.includes(command) ? ", or --all" : "";
  throw new SeawallError("usage", `the file has several clusters, and seawall ${command} works on one`, {
    hint: `Say which: --cluster ${listed(names, "or")}${orAll}.`,
  });
}

function listed(names: readonly string[], word = "and"): string {
  const last = names.at(-1) ?? "";
  return names.length === 1 ? last : `${names.slice(0, -1).join(", ")} ${word} ${last}`;
}

/** A line inside a cluster that concerns all of them. */
export function processWide({ key, keyPlace }: FileEntry, cluster: string): SeawallError {
  if (key === "cluster") {
    return new SeawallError("usage", `${keyPlace}: "cluster" inside the cluster "${cluster}"`, {
      hint: `Its name is "${cluster}" already: rename it there, or remove the line.`,
    });
  }
  return new SeawallError("usage", `${keyPlace}: "${key}" cannot be set for the cluster "${cluster}" alone`, {
    hint: "It concerns the whole process: put it at the top of the file.",
  });
}

/** Refuses options at the top of the file that have no meaning beside `clusters:`. */
export function refuseOnlyForOne(top: Layer): void {
  const cluster = top.get("cluster");
  if (cluster !== undefined) {
    throw new SeawallError("usage", `${cluster.place}: "cluster" beside "clusters"`, {
      hint: "The names of the clusters are the keys below clusters: remove the line.",
    });
  }
}

/** Several clusters are meant, and something that only one of them can have was given to all. */
export function checkGivenToAll(input: {
  readonly flags: ReadonlyMap<string, unknown>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly command: CommandName;
}): void {
  for (const [, { name, scope, commands }] of OPTION_ROWS) {
    // A job of the daemon reads more of the environment than its command has options.
    if (scope !== "own" || !(commands.includes(input.command) || input.command === "receive")) continue;
    const variable = envName(name);
    const isVariable = !input.flags.has(name) && (input.env[variable] ?? "") !== "";
    if (!isVariable && !input.flags.has(name)) continue;
    throw new SeawallError("usage", `${isVariable ? variable : `--${name}`} would be the same for every cluster`, {
      hint: `Give each cluster its own "${name}:" in the file, or name the one that is meant with --cluster.`,
    });
  }
}

interface Named {
  readonly name: string;
  readonly values: Layer;
}

/**
 * Throws `usage` when two of them would get into each other's way. `connects`: also to a server that no option names, which is
 * the same one for all; a machine that only restores needs none.
 */
export function checkApart(clusters: readonly Named[], connects: boolean): void {
  const spools = new Map<string, string>();
  const slots = new Map<string, string>();
  for (const { name, values } of clusters) {
    refuseNoLoop(values);
    const spool = values.get("spoolDir");
    if (spool !== undefined) {
      const directory = posix.normalize(`${String(spool.value)}/`);
      const other = spools.get(directory);
      if (other !== undefined) throw sameSpool(spool, other, name);
      spools.set(directory, name);
    }
    const [dsn, slot] = [values.get("dsn"), values.get("slot")];
    if (values.get("noSlot")?.value === true || (dsn === undefined && !connects)) continue;
    const stream = JSON.stringify([dsn?.value ?? null, slot?.value ?? OPTIONS.slot.default]);
    const other = slots.get(stream);
    if (other !== undefined) throw sameSlot(dsn ?? slot, other, name);
    slots.set(stream, name);
  }
}

function refuseNoLoop(values: Layer): void {
  const noLoop = values.get("noLoop");
  if (noLoop?.value !== true) return;
  throw new SeawallError("usage", `${noLoop.place}: "no-loop" beside "clusters"`, {
    hint: "It would end the process for all clusters when one of them loses its connection: leave it out.",
  });
}

function sameSpool(spool: Given, one: string, other: string): SeawallError {
  return new SeawallError("usage", `${spool.place}: the clusters "${one}" and "${other}" have the same spool-dir`, {
    hint: "A spool belongs to one receiver alone: give each cluster a directory of its own.",
  });
}

function sameSlot(at: Given | undefined, one: string, other: string): SeawallError {
  const place = at === undefined ? "" : `${at.place}: `;
  return new SeawallError("usage", `${place}the clusters "${one}" and "${other}" have the same dsn and slot`, {
    hint: "A slot serves one receiver at a time: the other one would wait for ever. Give each cluster its own dsn, or its own slot on that server.",
  });
}
