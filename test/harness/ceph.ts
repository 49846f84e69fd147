/**
 * A small Ceph cluster with an S3 gateway: one monitor, one OSD that keeps its objects in memory, one radosgw, all on
 * loopback ports of their own and below one scratch folder. Up in about two seconds, gone with the process that started it.
 *
 * Every daemon runs in the foreground as our child. Ceph: "Manual Deployment", vstart.sh in its sources.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { freePort } from "./postgres-process.ts";
import { run } from "./run.ts";
import { ServerProcess, waitForAnswer } from "./server-process.ts";
import { makeTempDir, removeTree, staleTempDirs } from "./temp.ts";

/** Objects may take this much memory in all; the OSD refuses writes beyond it. Memory is taken as it is filled. */
const OBJECT_BYTES_MAX = 8 * 2 ** 30;

export const CEPH_PROGRAMS = ["ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin"];
export const CEPH_PACKAGES = ["ceph-common", "ceph-mon", "ceph-osd", "radosgw"];

/** An access key and its secret. */
type Keys = readonly [string, string];

export interface CephGateway {
  readonly endpoint: string;
  readonly keys: Keys;
  /** A user without buckets, for bucket policies. */
  readonly limited: { readonly principal: string; readonly keys: Keys };
  stop(): Promise<void>;
}

export function missingCephPrograms(): string[] {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  return CEPH_PROGRAMS.filter((name) => !folders.some((folder) => existsSync(join(folder, name))));
}

/** A port may be taken between finding and using it, so a start that failed is tried again, from nothing. */
const ATTEMPTS_MAX = 3;

/** Starts a cluster; whatever was started is ended again when a step fails. */
export async function startCeph(): Promise<CephGateway> {
  for (const folder of staleTempDirs("ceph")) removeTree(folder);
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce();
    } catch (error) {
      if (attempt === ATTEMPTS_MAX) throw error;
    }
  }
}

async function startOnce(): Promise<CephGateway> {
  const folder = makeTempDir("ceph");
  const daemons: ServerProcess[] = [];
  const stop = async () => {
    await Promise.all(daemons.splice(0).map(async (daemon) => daemon.kill()));
    removeTree(folder);
  };
  try {
    const fsid = randomUUID();
    const osdUuid = randomUUID();
    const newKeys = (): Keys => [randomBytes(10).toString("hex"), randomBytes(20).toString("hex")];
    const [keys, limitedKeys] = [newKeys(), newKeys()];
    const [monPort, gatewayPort] = [await freePort(), await freePort()];
    const conf = join(folder, "ceph.conf");
    writeFileSync(conf, configuration({ folder, fsid, monPort, gatewayPort }));
    for (const name of ["mon", "osd", "rgw", "run"]) mkdirSync(join(folder, name));

    const cephEnv = { ...process.env, CEPH_CONF: conf };
    // A command waits for daemons: pointless when one of them has ended.
    const command = async (name: string, ...args: string[]) => {
      const ending = new AbortController();
      const options = { env: cephEnv, cwd: folder, timeoutMs: 60_000, signal: ending.signal };
      const done = run(name, ["-c", conf, ...args], options);
      try {
        await Promise.race([done, ...daemons.map(async (daemon) => daemon.failure)]);
      } catch (error) {
        ending.abort();
        await done.catch(() => undefined);
        throw error;
      }
    };
    const daemon = (name: string, ...args: string[]) => {
      daemons.push(new ServerProcess(name, ["-c", conf, "-f", ...args], { folder, env: cephEnv }));
    };

    const map = join(folder, "monmap");
    const address = `[v1:127.0.0.1:${monPort}]`;
    await run("monmaptool", ["--create", "--fsid", fsid, "--addv", "a", address, map], { env: cephEnv, cwd: folder });
    await command("ceph-mon", "--mkfs", "-i", "a", "--monmap", map, "--keyring", "/dev/null");
    daemon("ceph-mon", "-i", "a", "--public-addr", `v1:127.0.0.1:${monPort}`);
    await command("ceph", "--connect-timeout", "30", "osd", "new", osdUuid);
    await command("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osdUuid, "--no-mon-config");
    await command("ceph", "osd", "crush", "add", "osd.0", "1.0", "host=seawall", "root=default");
    daemon("ceph-osd", "-i", "0");
    const createUser = async (name: string, [access, secret]: Keys, ...more: string[]): Promise<void> => {
      const user = [`--uid=${name}`, `--display-name=${name}`, `--access-key=${access}`, `--secret-key=${secret}`];
      await command("radosgw-admin", "user", "create", ...user, ...more);
    };
    await createUser("seawall", keys, "--max-buckets=0");
    await createUser("limited", limitedKeys);
    daemon("radosgw", "-n", "client.rgw.a");

    const endpoint = `http://127.0.0.1:${gatewayPort}`;
    await Promise.race([waitForAnswer(endpoint), ...daemons.map(async (daemon) => daemon.failure)]);
    const limited = { principal: "arn:aws:iam:::user/limited", keys: limitedKeys };
    return { endpoint, keys, limited, stop };
  } catch (error) {
    const logs = daemons.map((daemon) => daemon.tail()).join("\n");
    await stop();
    throw new Error(`a Ceph cluster for the S3 tests did not start: ${String(error)}\n${logs}`, { cause: error });
  }
}

/** Debian 13's OSD looks for its object classes in a relative path, below wherever it was started. */
function classDir(): Record<string, string> {
  const machine = process.arch === "arm64" ? "aarch64" : "x86_64";
  const folder = `/usr/lib/${machine}-linux-gnu/rados-classes`;
  return existsSync(folder) ? { "osd class dir": folder } : {};
}

/**
 * Without authentication inside the cluster, over the older wire protocol (the newer one wants keys even so), and with
 * the monitor's one-second batching of map changes turned off: it is most of what a start usually takes.
 */
function configuration(o: { folder: string; fsid: string; monPort: number; gatewayPort: number }): string {
  const global = {
    fsid: o.fsid,
    "mon host": `v1:127.0.0.1:${o.monPort}`,
    "ms bind msgr2": false,
    "public addr": "127.0.0.1",
    "cluster addr": "127.0.0.1",
    "auth cluster required": "none",
    "auth service required": "none",
    "auth client required": "none",
    "run dir": join(o.folder, "run"),
    "admin socket": "",
    "log file": join(o.folder, "$name.log"),
    "mon data": join(o.folder, "mon"),
    "mon data avail crit": 0,
    "mon data avail warn": 0,
    "mon allow pool size one": true,
    "mon max pg per osd": 10_000,
    "paxos propose interval": 0.02,
    "paxos min wait": 0.01,
    "osd data": join(o.folder, "osd"),
    "osd objectstore": "memstore",
    ...classDir(),
    "memstore device bytes": OBJECT_BYTES_MAX,
    "osd heartbeat grace": 3600,
    // What these would do is done above: an OSD that does it itself can fail by asking before it knows the monitor.
    "osd class update on start": false,
    "osd crush update on start": false,
    "osd crush chooseleaf type": 0,
    "osd pool default size": 1,
    "osd pool default min size": 1,
    "osd pool default pg num": 4,
    "osd pool default pgp num": 4,
    "osd pool default pg autoscale mode": "off",
  };
  const gateway = {
    "rgw frontends": `beast endpoint=127.0.0.1:${o.gatewayPort}`,
    "rgw data": join(o.folder, "rgw"),
    "rgw enable usage log": false,
    "rgw enable ops log": false,
    // Deleted objects give their memory back at once, not in two hours.
    "rgw gc obj min wait": 1,
    "rgw gc processor period": 5,
    "rgw gc processor max time": 5,
    "debug rgw": 0,
  };
  const section = (name: string, values: Record<string, string | number | boolean>) =>
    [`[${name}]`, ...Object.entries(values).map(([key, value]) => `${key} = ${value}`)].join("\n");
  return `${section("global", global)}\n${section("client.rgw.a", gateway)}\n`;
}
