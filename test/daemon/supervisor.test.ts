/** Several clusters in one process, scripted: none disturbs another, whatever ends it; and what a reload does to each. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { afterEach, describe, expect, it } from "vitest";
import { configurationOf } from "../../src/cli/configuration.ts";
import { type Loaded, loadSettings } from "../../src/config/load.ts";
import type { Cluster } from "../../src/daemon/cluster.ts";
import { type Equipment, type OpenCluster, restartDelay } from "../../src/daemon/member.ts";
import { changeOf, type ClusterPlan } from "../../src/daemon/plan.ts";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import { Supervisor } from "../../src/daemon/supervisor.ts";
import { SeawallError } from "../../src/errors.ts";
import { silentLog } from "../../src/log.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";
import { until } from "../campaigns/campaign.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { parseExposition } from "../metrics/exposition.ts";
import { statusFixture } from "./fixture.ts";

/** One life of a scripted cluster. */
class Life {
  readonly plan: ClusterPlan;
  readonly equipment: Equipment;
  retuned: ClusterPlan | undefined;
  /** What its status says beside the usual. */
  facts: Partial<StatusDocument> = {};
  /** Ends it as an error would. */
  fail: (error: unknown) => void = () => undefined;
  /** What an orderly stop ends with. */
  atStop: Error | undefined;
  /** An orderly stop waits for it. */
  mayStop: Promise<void> = Promise.resolve();
  running = false;

  constructor(plan: ClusterPlan, equipment: Equipment) {
    this.plan = plan;
    this.equipment = equipment;
  }

  get cluster(): Cluster {
    return {
      status: () => statusFixture({ cluster: this.plan.name, errors: this.equipment.journal.errors(), ...this.facts }),
      recovery: () => null,
      retune: (plan) => (this.retuned = plan as ClusterPlan),
      run: async () => {
        this.running = true;
        const { stop } = this.equipment;
        try {
          await new Promise<void>((resolve, reject) => {
            this.fail = reject;
            if (stop.aborted) resolve();
            stop.addEventListener("abort", () => resolve());
          });
          await this.mayStop;
          if (this.atStop !== undefined) throw this.atStop;
        } finally {
          this.running = false;
        }
      },
    };
  }
}

class Stage {
  readonly lives: Life[] = [];
  readonly stop = new AbortController();
  readonly supervisor: Supervisor;
  readonly delays: number[] = [];
  /** Thrown instead of opening a cluster. */
  refuse: ((plan: ClusterPlan) => Error | undefined) | undefined;
  onOpen: ((life: Life) => void) | undefined;

  constructor(options: { readonly isOneOfSeveral?: boolean; readonly delayMs?: number } = {}) {
    const { isOneOfSeveral = true, delayMs = 5 } = options;
    const open: OpenCluster = async (plan, equipment) => {
      const refused = this.refuse?.(plan);
      if (refused !== undefined) throw refused;
      const life = new Life(plan, equipment);
      this.lives.push(life);
      this.onOpen?.(life);
      return life.cluster;
    };
    const restartDelayMs = (failures: number): number => {
      this.delays.push(failures);
      return delayMs;
    };
    const { signal: stop } = this.stop;
    this.supervisor = new Supervisor({ open, isOneOfSeveral, version: "0.1.0", log: silentLog, stop, restartDelayMs });
    stages.push(this);
  }

  livesOf(name: string): readonly Life[] {
    return this.lives.filter(({ plan }) => plan.name === name);
  }

  /** The life that runs now. */
  async running(name: string): Promise<Life> {
    await until(`a life of ${name}`, () => this.livesOf(name).some(({ running }) => running));
    const found = this.livesOf(name).find(({ running }) => running);
    if (found === undefined) throw new Error("it runs no more");
    return found;
  }

  memberStatus(name: string): ReturnType<Supervisor["members"][number]["status"]> {
    const member = this.supervisor.members.find(({ plan }) => plan.name === name);
    if (member === undefined) throw new Error(`no ${name}`);
    return member.status();
  }
}

const stages: Stage[] = [];
afterEach(() => {
  for (const stage of stages.splice(0)) stage.stop.abort();
});

async function merged(options: Readonly<Record<string, string>>): Promise<Loaded> {
  const flags = new Map(Object.entries({ store: "file:///archive", ...options }));
  const readFile = async (): Promise<string> => "";
  return loadSettings({ command: "receive", flags, env: {}, readFile });
}

async function plan(name: string, options: Readonly<Record<string, string>> = {}): Promise<ClusterPlan> {
  const { settings } = await merged({ cluster: name, dsn: `host=${name}`, ...options });
  const connect = async (): ReturnType<ClusterPlan["connect"]> => parseConninfo({ env: {}, files: () => undefined });
  return { name, settings, storeUrl: "file:///archive", jobEnv: {}, connect, recipients: undefined };
}

const recipient = async (): Promise<string> => identityToRecipient(await generateX25519Identity());

const lost = new SeawallError("wal-diverged", "the server went another way");

describe("one of several", () => {
  const ends: readonly (readonly [string, unknown])[] = [
    ["a diverged server", lost],
    ["an error that says the options are wrong", new SeawallError("usage", "no such directory")],
    ["a bug", new TypeError("undefined is not a function")],
    ["something that is no error at all", "what?"],
  ];
  it.each(ends)("that is ended by %s is shown as failed, started again, and the others go on", async (_, end) => {
    const stage = new Stage({ delayMs: 60_000 });
    const ending = stage.supervisor.run([await plan("a"), await plan("b")]);
    const [a, b] = [await stage.running("a"), await stage.running("b")];
    a.fail(end);
    await until("a failed", () => stage.memberStatus("a").state === "failed");
    const message = end instanceof Error ? end.message : String(end);
    const status = stage.memberStatus("a");
    expect(status.lastError?.message).toBe(message);
    expect(status.restart?.failures).toBe(1);
    expect(status.errors[0]).toMatchObject({ message, times: 1 });
    expect(stage.memberStatus("b")).toMatchObject({ state: "streaming", restart: null });
    expect(b.running).toBe(true);
    const exposition = parseExposition((await stage.supervisor.members[0]?.metrics()) ?? "");
    const failed = exposition.get("seawall_receiver_state")?.samples.find(({ labels }) => labels["state"] === "failed");
    expect(failed).toMatchObject({ labels: { cluster: "a" }, value: 1 });
    stage.stop.abort();
    // It had failed before it was told to stop: the stop itself was in order.
    await ending;
    expect(stage.livesOf("b")).toHaveLength(1);
  });

  it("fails again and again, waits longer each time, and recovers by itself", async () => {
    const stage = new Stage();
    stage.onOpen = (life) => {
      if (life.plan.name === "a" && stage.livesOf("a").length < 4)
        queueMicrotask(() => queueMicrotask(() => life.fail(lost)));
    };
    const ending = stage.supervisor.run([await plan("a"), await plan("b")]);
    await until("the fourth life", () => stage.livesOf("a").length === 4);
    await until("it runs", () => stage.memberStatus("a").state === "streaming");
    expect(stage.delays).toEqual([1, 2, 3]);
    expect(stage.memberStatus("a").restart).toBeNull();
    const exposition = parseExposition((await stage.supervisor.members[0]?.metrics()) ?? "");
    expect(exposition.get("seawall_cluster_restarts_total")?.samples[0]?.value).toBe(3);
    expect(stage.livesOf("b")).toHaveLength(1);
    stage.stop.abort();
    await ending;
  });

  it("that cannot even be opened is shown and tried again, too", async () => {
    const stage = new Stage();
    let tries = 0;
    stage.refuse = ({ name }) =>
      name === "a" && tries++ < 2 ? new SeawallError("usage", "no service file") : undefined;
    const ending = stage.supervisor.run([await plan("a"), await plan("b")]);
    expect(stage.memberStatus("a")).toMatchObject({ cluster: "a", state: "starting", storedLsn: null });
    await until("a failure", () => stage.delays.length > 0);
    await stage.running("a");
    await stage.running("b");
    stage.stop.abort();
    await ending;
  });

  it("the pause doubles from 10 seconds to 5 minutes", () => {
    expect([1, 2, 3, 4, 5, 6, 7, 1000].map(restartDelay)).toEqual([
      ...[10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000, 300_000],
    ]);
  });
});

describe("the end of the process", () => {
  it("stops all in parallel, waits for each, and tells what one could not store", async () => {
    const stage = new Stage();
    let letGo = (): void => undefined;
    stage.onOpen = (life) => {
      if (life.plan.name === "a") life.mayStop = new Promise((resolve) => (letGo = resolve));
      if (life.plan.name === "b") life.atStop = new SeawallError("shutdown-incomplete", "the store did not take it");
    };
    let isOver = false;
    const ending = stage.supervisor.run([await plan("a"), await plan("b"), await plan("c")]);
    const ended = ending.catch((error: unknown) => error).finally(() => (isOver = true));
    const lives = await Promise.all(["a", "b", "c"].map(async (name) => stage.running(name)));
    stage.stop.abort();
    await until("b and c ended", () => lives.filter(({ running }) => running).length === 1);
    expect(isOver).toBe(false);
    letGo();
    expect(await ended).toMatchObject({ code: "shutdown-incomplete", exit: 5 });
  });

  it("comes with what ended the only cluster, where the file has no clusters", async () => {
    const stage = new Stage({ isOneOfSeveral: false });
    const ending = stage.supervisor.run([await plan("main")]);
    (await stage.running("main")).fail(lost);
    await expect(ending).rejects.toBe(lost);
    expect(stage.lives).toHaveLength(1);
  });
});

describe("a reload", () => {
  it("starts what is new, stops what is gone, changes what has changed, and leaves the rest alone", async () => {
    const stage = new Stage();
    const ending = stage.supervisor.run(
      await Promise.all(["same", "gone", "retimed", "moved"].map(async (n) => plan(n))),
    );
    const before = new Map<string, Life>();
    for (const name of ["same", "gone", "retimed", "moved"]) before.set(name, await stage.running(name));
    const { changes, done } = stage.supervisor.change([
      ...[await plan("new"), await plan("same"), await plan("retimed", { "verify-schedule": "0 1 * * *" })],
      await plan("moved", { dsn: "host=elsewhere" }),
    ]);
    expect(changes).toEqual({
      ...{ started: ["new"], stopped: ["gone"], restarted: ["moved"], rescheduled: ["retimed"], untouched: ["same"] },
    });
    await done;
    expect(stage.supervisor.members.map((member) => member.plan.name)).toEqual(["new", "same", "retimed", "moved"]);
    expect(before.get("gone")?.running).toBe(false);
    expect(before.get("moved")?.running).toBe(false);
    expect((await stage.running("moved")).plan.settings.dsn).toBe("host=elsewhere");
    await stage.running("new");
    for (const name of ["same", "retimed"]) expect(await stage.running(name)).toBe(before.get(name));
    expect(before.get("retimed")?.retuned?.settings.verifySchedule).toBe("0 1 * * *");
    stage.stop.abort();
    await ending;
  });

  it("leaves no WAL behind in a spool: the cluster goes on with it until the store has all", async () => {
    const stage = new Stage();
    const spooled = { durability: "spool", "spool-dir": "/spool" };
    const ending = stage.supervisor.run([await plan("a", spooled)]);
    const first = await stage.running("a");
    first.facts = { storedLsn: "0/5000000", uploadedLsn: "0/4000000", isUploaded: false };
    await stage.supervisor.change([await plan("a")]).done;
    const second = await stage.running("a");
    expect(second).not.toBe(first);
    expect(second.plan.settings.spoolDir).toBe("/spool");
    // The next reload tries again.
    second.facts = { storedLsn: "0/5000000", uploadedLsn: "0/5000000", isUploaded: true };
    await stage.supervisor.change([await plan("a")]).done;
    expect((await stage.running("a")).plan.settings.spoolDir).toBeUndefined();
    stage.stop.abort();
    await ending;
  });

  it("gives the jobs of a cluster that has not changed what has changed for the whole process", async () => {
    const stage = new Stage();
    const ending = stage.supervisor.run([await plan("same"), await plan("other")]);
    const [same, other] = [await stage.running("same"), await stage.running("other")];
    const jobEnv = { SEAWALL_LOG_LEVEL: "debug" };
    const { changes, done } = stage.supervisor.change([{ ...(await plan("same")), jobEnv }, await plan("other")]);
    await done;
    expect(changes.untouched).toEqual(["same", "other"]);
    expect(same.retuned?.jobEnv).toEqual(jobEnv);
    expect(other.retuned).toBeUndefined();
    stage.stop.abort();
    await ending;
  });

  it("waits with one that needs what another still holds, and with no other", async () => {
    const stage = new Stage();
    let letGo = (): void => undefined;
    stage.onOpen = (life) => {
      if (life.plan.name === "old") life.mayStop = new Promise((resolve) => (letGo = resolve));
    };
    const ending = stage.supervisor.run([await plan("old", { dsn: "host=db" })]);
    await stage.running("old");
    // The same server and slot under another name.
    const { done } = stage.supervisor.change([await plan("renamed", { dsn: "host=db" }), await plan("other")]);
    await stage.running("other");
    expect(stage.livesOf("renamed")).toHaveLength(0);
    letGo();
    await done;
    await stage.running("renamed");
    stage.stop.abort();
    await ending;
  });

  it("lets one that waits after a failure try again at once, and one that could not stop in order go", async () => {
    const stage = new Stage({ delayMs: 3_600_000 });
    stage.onOpen = (life) => (life.atStop = new SeawallError("shutdown-incomplete", "the store is away"));
    const plans = [await plan("a"), await plan("b")];
    const ending = stage.supervisor.run(plans);
    (await stage.running("a")).fail(lost);
    await until("a failed", () => stage.memberStatus("a").state === "failed");
    await stage.running("b");
    await stage.supervisor.change([plans[0] as ClusterPlan]).done;
    await stage.running("a");
    expect(stage.livesOf("a")).toHaveLength(2);
    for (const life of stage.lives) life.atStop = undefined;
    stage.stop.abort();
    await ending;
  });

  it("that meets the end of the process starts nothing any more", async () => {
    const stage = new Stage();
    let letGo = (): void => undefined;
    stage.onOpen = (life) => {
      life.mayStop = new Promise((resolve) => (letGo = resolve));
    };
    const ending = stage.supervisor.run([await plan("a")]);
    await stage.running("a");
    const { done } = stage.supervisor.change([await plan("a", { slot: "other" })]);
    stage.stop.abort();
    letGo();
    await Promise.all([done, ending]);
    expect(stage.lives).toHaveLength(1);
  });

  const changes: readonly (readonly [string, Readonly<Record<string, string>>, string])[] = [
    ["nothing", {}, "none"],
    ["the address to listen on, which is the process'", { listen: "off" }, "none"],
    ["a schedule", { "backup-schedule": "0 3 * * *" }, "routine"],
    ["how long a job may take", { "job-timeout": "1h" }, "routine"],
    ["the slot", { slot: "other" }, "receiver"],
    ["a schedule and the interval", { "backup-schedule": "0 3 * * *", "ship-interval": "3s" }, "receiver"],
    ["the spool", { durability: "spool", "spool-dir": "/spool" }, "receiver"],
  ];
  it.each(changes)("%s, changed, means %j", async (_, options, expected) => {
    const [before, after] = [await merged({}), await merged(options)];
    const noOne = { recipients: undefined };
    expect(changeOf({ ...before, ...noOne }, { ...after, ...noOne })).toBe(expected);
  });

  it("an option that only jobs know is a matter of the routine", async () => {
    const { settings } = await merged({});
    const after = { ...settings, keepFull: 3, pgBin: "/pg" };
    expect(changeOf({ settings, recipients: undefined }, { settings: after, recipients: undefined })).toBe("routine");
  });

  it("another recipient in the file of recipients is a matter of the receiver, another comment is not", async () => {
    const folder = makeTempDir("recipients");
    try {
      const file = join(folder, "recipients.txt");
      const [one, two] = [await recipient(), await recipient()];
      const load = async (text: string): Promise<ClusterPlan> => {
        writeFileSync(file, text);
        const loaded = await merged({ "encrypt-to": file, dsn: "host=a" });
        const [only] = (await configurationOf(loaded, {})).clusters;
        if (only === undefined) throw new Error("no cluster");
        return only;
      };
      const before = await load(`# of the office\n${one}\n`);
      expect(before.recipients?.names).toEqual([one]);
      expect(changeOf(before, await load(`# of the safe\n${one}\n`))).toBe("none");
      expect(changeOf(before, await load(`${one}\n${two}\n`))).toBe("receiver");
      expect(changeOf(before, await load(`${two}\n`))).toBe("receiver");
      await expect(load("age1nothing\n")).rejects.toMatchObject({ code: "usage" });
    } finally {
      removeTree(folder);
    }
  });
});
