/**
 * `check`, the side of the store: looks for the spool's directory. In the store it writes, reads, lists and deletes one small
 * object, tries conditional writes, and reads which archive is stored.
 */
import { randomBytes } from "node:crypto";
import { type Archive, writerRefusal } from "../../archive/archive.ts";
import { readGenerations } from "../../archive/generations.ts";
import { probeKey } from "../../archive/keys.ts";
import { describeRivals } from "../../archive/line/rivals.ts";
import { Codec } from "../../codec/codec.ts";
import { checkEncryption, soleRecipient } from "./encryption.ts";
import { humanSeconds } from "../../daemon/status/human.ts";
import { SeawallError } from "../../errors.ts";
import { isRefusal } from "../../receive/line/connect.ts";
import { type JoinOptions, previewLine } from "../../receive/line/claim.ts";
import { bytesBelow, diskSpaceOf, refuseMissingSpool } from "../../receive/spool-dir.ts";
import { judgeSpool } from "../../receive/spool-room.ts";
import { deadline } from "../../signals.ts";
import type { Store } from "../../store/store.ts";
import { zstdLibrary } from "../../zstd-library.ts";
import type { Finding } from "./findings.ts";

export interface StoreCheckOptions {
  readonly store: Store;
  readonly cluster: string;
  /** The server's; undefined when it could not be asked. */
  readonly identity: { readonly systemIdentifier: bigint; readonly segmentSize: number } | undefined;
  readonly joining: JoinOptions["server"] | undefined;
  /** Recipients of `--encrypt-to` in short; undefined without it. */
  readonly recipients: readonly string[] | undefined;
  /** Write nothing, not even the probe. */
  readonly isReadOnly?: boolean;
  readonly signal: AbortSignal;
}

const PROBE_BYTES = 8192;
const CLOCK_SKEW_WARN_SECONDS = 30;

/** `path`: the directory of `--spool-dir`, absolute. */
export async function checkSpool(
  path: string,
  limits: { readonly spoolBytesMax: number; readonly segmentSize: number | undefined },
  signal: AbortSignal,
): Promise<Finding[]> {
  return step("spool", async () => {
    await refuseMissingSpool(path, [signal]);
    const there = ok("spool", `${path} is a directory`);
    const { spoolBytesMax, segmentSize } = limits;
    if (segmentSize === undefined) return [there];
    return [there, await checkSpoolRoom(path, { spoolBytesMax, segmentSize })];
  });
}

/** Compares the disk with what the spool needs, as `receive` does at its start. */
async function checkSpoolRoom(
  path: string,
  limits: { readonly spoolBytesMax: number; readonly segmentSize: number },
): Promise<Finding> {
  const name = "spool room";
  const [heldBytes, disk] = [await bytesBelow(path), await diskSpaceOf(path)];
  const { kind, message, hint } = judgeSpool({ ...limits, heldBytes, disk });
  if (kind === "ok") return ok(name, message);
  return kind === "tight" ? warned(name, message, hint) : failed(name, message, hint);
}

const notTried: Finding = {
  group: "store",
  name: "write",
  verdict: "skip",
  message: "not tried: --dry-run writes nothing",
  remedy: null,
};

export async function checkStore(options: StoreCheckOptions): Promise<Finding[]> {
  const archive = await step("archive", () => checkArchive(options));
  if (options.isReadOnly === true) return [...archive, notTried];
  // A store that cannot even be asked is not written to: it would be the same trouble once more.
  if (archive.some(({ name }) => name === "reach")) return archive;
  return [...archive, ...(await checkAccess(options)), ...(await step("zstd", checkZstd))];
}

/** Names the library that compresses what is stored. */
async function checkZstd(): Promise<Finding[]> {
  const library = zstdLibrary();
  if (library.name === "zstd-napi") return [ok("zstd", `zstd-napi ${library.version} compresses`)];
  return [ok("zstd", `Node.js ${library.version} compresses with its own zstd; ${library.instead}`)];
}

async function checkArchive(options: StoreCheckOptions): Promise<Finding[]> {
  const { store, cluster, identity, joining, recipients, signal } = options;
  const generations = await readGenerations(store, cluster, { signal });
  const name = "archive";
  const newest = generations.at(-1);
  if (newest === undefined) {
    const empty = ok(name, `"${cluster}" in ${store.description} is empty: receive begins it`);
    return [empty, soleRecipient(recipients ?? []) ?? []].flat();
  }
  const found = newest.identity;
  const whose = `"${newest.folder}" in ${store.description} belongs to system identifier ${found.systemIdentifier}`;
  if (identity === undefined) return [ok(name, whose)];
  const refusal = writerRefusal(store, generations, identity.systemIdentifier);
  if (refusal !== undefined) return [failed(name, refusal.message, refusal.hint)];
  if (identity.segmentSize !== found.segmentSize) {
    const message = `${whose} with segments of ${found.segmentSize} bytes, the server has ${identity.segmentSize}`;
    return [failed(name, message, "wal_segment_size was changed: archive the server under a new --cluster.")];
  }
  const archive = { store, cluster: newest.folder, identity: found, codec: new Codec() };
  return [
    ok(name, `${whose}, which is this server`),
    ...(joining === undefined ? [] : [await checkLine(archive, joining, signal)]),
    ...[(await checkEncryption(archive, recipients, signal)) ?? []].flat(),
    ...(await checkRivals(archive, signal)),
  ];
}

/** The decision that `receive` would make about this server. */
async function checkLine(archive: Archive, server: JoinOptions["server"], signal: AbortSignal): Promise<Finding> {
  const { timeline } = server.history;
  try {
    const { line, claim, watch } = await previewLine(archive, { server, signal });
    if (line === undefined || line === timeline)
      return ok("line", `this server is on the archive's line, timeline ${timeline}`);
    const when = watch ? `, once timeline ${line} is no longer written` : "";
    const then = claim === undefined ? "follows" : "claims the line for";
    return ok(
      "line",
      `the archive's line is timeline ${line}: receive ${then} this server's timeline ${timeline}${when}`,
    );
  } catch (error) {
    if (!(error instanceof SeawallError) || !isRefusal(error)) throw error;
    return failed("line", `receive would refuse this server: ${error.message}`, error.hint);
  }
}

/** Two servers that write into one archive: neither may be what the operator wants. */
async function checkRivals(archive: Archive, signal: AbortSignal): Promise<Finding[]> {
  const rivals = await describeRivals(archive, { signal });
  const remedy =
    "Stop the receiver or the archive_command of the other server, or give it a --cluster of its own (docs/timelines.md).";
  return rivals.map(({ text }) => warned("rival", text, remedy));
}

/** The steps build on one another: the first that fails ends them. The probe is deleted whatever happens. */
async function checkAccess({ store, cluster, signal }: StoreCheckOptions): Promise<Finding[]> {
  const key = probeKey(cluster, randomBytes(8).toString("hex"));
  const body = randomBytes(PROBE_BYTES);
  const findings: Finding[] = [];
  const run = async (name: string, action: () => Promise<Finding[]>): Promise<boolean> => {
    const result = await step(name, action);
    findings.push(...result);
    return result.every(({ verdict }) => verdict !== "fail");
  };
  let written = false;
  try {
    written = await run("write", async () => {
      const started = performance.now();
      await store.put(key, body, { signal });
      return [ok("write", `8 KiB in ${humanSeconds((performance.now() - started) / 1000)}`)];
    });
    if (!written) return findings;
    const steps = [
      () => run("conditional write", () => checkConditional(store, key, signal)),
      () => run("read", () => checkRead(store, key, body, signal)),
      () => run("list", () => checkList(store, key, signal)),
    ];
    for (const next of steps) if (!(await next())) break;
  } finally {
    // A write that failed may have taken effect all the same.
    const deleted = await step("delete", () => checkDelete(store, key));
    if (written) findings.push(...deleted);
  }
  return findings;
}

async function checkConditional(store: Store, key: string, signal: AbortSignal): Promise<Finding[]> {
  const result = await store.put(key, randomBytes(PROBE_BYTES), { signal });
  if (result === "exists") return [ok("conditional write", "an object that is there is not overwritten")];
  return [
    failed(
      "conditional write",
      "the store overwrote an object although it was asked not to",
      "Use a store that supports If-None-Match on PUT: without it two receivers can destroy each other's WAL.",
    ),
  ];
}

async function checkRead(store: Store, key: string, body: Uint8Array, signal: AbortSignal): Promise<Finding[]> {
  const whole = await store.get(key, { signal });
  const range = await store.get(key, { signal, range: { offset: 100, length: 10 } });
  const same = whole !== undefined && Buffer.compare(whole.body, body) === 0;
  const rangeSame = range !== undefined && Buffer.compare(range.body, body.subarray(100, 110)) === 0;
  if (!same || !rangeSame) {
    return [
      failed("read", "what came back is not what was written", "Something between here and the store alters data."),
    ];
  }
  return [ok("read", "what was written comes back, whole and in ranges")];
}

async function checkList(store: Store, key: string, signal: AbortSignal): Promise<Finding[]> {
  for await (const object of store.list(key, { signal })) {
    if (object.key !== key) continue;
    const skew = (object.modifiedAt.getTime() - Date.now()) / 1000;
    if (Math.abs(skew) < CLOCK_SKEW_WARN_SECONDS) return [ok("list", "what was written is listed")];
    return [
      ok("list", "what was written is listed"),
      warned(
        "clock",
        `the store's clock is ${humanSeconds(Math.abs(skew))} ${skew > 0 ? "ahead of" : "behind"} ours`,
        "Synchronise clocks with NTP: S3 refuses requests that are 15 minutes off.",
      ),
    ];
  }
  return [failed("list", "what was written is not listed", "The store must list consistently right after a write.")];
}

async function checkDelete(store: Store, key: string): Promise<Finding[]> {
  // Not cancelled with the command: the probe must not stay behind.
  using limit = deadline(30_000);
  const { signal } = limit;
  await store.delete([key], { signal });
  if ((await store.head(key, { signal })) === undefined) return [ok("delete", "the probe is gone")];
  return [failed("delete", "a deleted object is still there", "Check for object lock or versioning on this prefix.")];
}

async function step(name: string, action: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof SeawallError) || error.code === "aborted" || error.code === "internal") throw error;
    const asked = name === "archive" && error.code.startsWith("store-") ? "reach" : name;
    return [failed(asked, error.message, error.hint)];
  }
}

function ok(name: string, message: string): Finding {
  return { group: "store", name, verdict: "ok", message, remedy: null };
}

function warned(name: string, message: string, remedy: string): Finding {
  return { group: "store", name, verdict: "warn", message, remedy };
}

function failed(name: string, message: string, remedy: string): Finding {
  return { group: "store", name, verdict: "fail", message, remedy };
}
