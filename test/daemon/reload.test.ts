/** Reloading the configuration: one at a time, all or nothing, and everybody is told how it went. */
import { describe, expect, it } from "vitest";
import { loadSettings } from "../../src/config/load.ts";
import { formatAddress, type ListenAddress } from "../../src/config/types.ts";
import type { Configuration } from "../../src/daemon/plan.ts";
import { Reloads } from "../../src/daemon/reload.ts";
import { type Changes } from "../../src/daemon/supervisor.ts";
import { SeawallError } from "../../src/errors.ts";
import { createLog } from "../../src/log.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";
import { until } from "../campaigns/campaign.ts";

const NOTHING: Changes = { started: [], stopped: [], restarted: [], rescheduled: [], untouched: [] };
const LISTEN: ListenAddress = { kind: "tcp", host: "127.0.0.1", port: 1 };

async function configuration(
  changes: Partial<Configuration> = {},
  names: readonly string[] = ["a"],
): Promise<Configuration> {
  const clusters: Configuration["clusters"][number][] = [];
  for (const name of names) {
    const flags = new Map([
      ["store", "file:///archive"],
      ["cluster", name],
    ]);
    const { settings } = await loadSettings({ command: "receive", flags, env: {}, readFile: async () => "" });
    const connect = async (): ReturnType<(typeof clusters)[0]["connect"]> =>
      parseConninfo({ env: {}, files: () => undefined });
    clusters.push({
      name,
      settings,
      storeUrl: "file:///archive",
      jobEnv: {},
      connect,
      recipients: undefined,
    });
  }
  return {
    ...{
      file: "seawall.yaml",
      several: true,
      clusters,
      listen: LISTEN,
      listenNames: [],
      logLevel: "info",
      logFormat: "json",
      jobsAtOnce: 2,
    },
    ...changes,
  };
}

class Desk {
  readonly lines: { msg: string; level: string }[] = [];
  readonly stop = new AbortController();
  readonly listened: string[] = [];
  changed = 0;
  loaded = 0;
  reloads!: Reloads;

  async open(
    load: () => Promise<Configuration>,
    options: {
      readonly first?: Partial<Configuration>;
      readonly listen?: () => Promise<void>;
      readonly done?: () => Promise<void>;
    } = {},
  ): Promise<this> {
    const destination = { write: (line: string) => void this.lines.push(JSON.parse(line) as (typeof this.lines)[0]) };
    this.reloads = new Reloads({
      configuration: await configuration(options.first),
      load: async () => {
        this.loaded++;
        return load();
      },
      onLoaded: () => undefined,
      supervisor: {
        change: () => {
          this.changed++;
          return { changes: NOTHING, done: (options.done ?? (async () => undefined))() };
        },
      },
      doors: {
        change: async (listen) => {
          await options.listen?.();
          this.listened.push(formatAddress(listen));
        },
      },
      log: createLog({ level: "info", format: "json", destination }),
      stop: this.stop.signal,
    });
    return this;
  }

  said(pattern: RegExp): boolean {
    return this.lines.some(({ msg }) => pattern.test(msg));
  }
}

describe("a reload", () => {
  it("that goes well is applied and told", async () => {
    const desk = await new Desk().open(async () => configuration({ listen: { kind: "off" } }, ["a", "b"]));
    const before = desk.reloads.view().loadedAt;
    await until("the clock has moved", () => new Date().toISOString() > before);
    desk.reloads.request();
    await desk.reloads.settled();
    expect([desk.listened, desk.changed]).toEqual([["off"], 1]);
    expect(desk.reloads.view()).toMatchObject({ file: "seawall.yaml", error: null });
    expect(desk.reloads.view().loadedAt > before).toBe(true);
    expect(desk.said(/^the configuration is loaded$/)).toBe(true);
  });

  const refusals: readonly (readonly [string, () => Promise<Configuration>, Partial<Configuration>, RegExp])[] = [
    [
      "a file with an error",
      async () => Promise.reject(new SeawallError("usage", 'seawall.yaml:3:5: unknown key "x"')),
      {},
      /seawall\.yaml:3:5: unknown key/,
    ],
    ["clusters: put into the file", async () => configuration(), { several: false }, /put into the file/],
    ["clusters: taken out of the file", async () => configuration({ several: false }), {}, /taken out of the file/],
    [
      "another name of the only cluster",
      async () => configuration({ several: false }, ["b"]),
      { several: false },
      /was "a" and is "b" now/,
    ],
  ];
  it.each(refusals)("with %s changes nothing and says why, until one goes well", async (_, load, first, message) => {
    let isGood = false;
    const desk = await new Desk().open(async () => (isGood ? configuration(first) : load()), { first });
    const before = desk.reloads.view();
    desk.reloads.request();
    await desk.reloads.settled();
    expect([desk.listened, desk.changed]).toEqual([[], 0]);
    expect(desk.reloads.view()).toMatchObject({ loadedAt: before.loadedAt, error: { code: "usage" } });
    expect(desk.reloads.view().error?.message).toMatch(message);
    expect(desk.lines.find(({ level }) => level === "error")?.msg).toMatch(/goes on as it was/);
    isGood = true;
    desk.reloads.request();
    await desk.reloads.settled();
    expect(desk.reloads.view().error).toBeNull();
  });

  it("whose address cannot be listened on is refused as a whole", async () => {
    const taken = async (): Promise<void> => Promise.reject(new SeawallError("listen-failed", "the address is in use"));
    const desk = await new Desk().open(async () => configuration({ listen: { kind: "off" } }), { listen: taken });
    desk.reloads.request();
    await desk.reloads.settled();
    expect(desk.changed).toBe(0);
    expect(desk.reloads.view().error?.code).toBe("listen-failed");
  });

  it("asked for while one is under way follows it, once, however often it was asked for", async () => {
    let letGo = (): void => undefined;
    const done = async (): Promise<void> => new Promise((resolve) => (letGo = resolve));
    const desk = await new Desk().open(async () => configuration(), { done });
    desk.reloads.request();
    await until("the first is being carried out", () => desk.changed === 1);
    for (let i = 0; i < 3; i++) desk.reloads.request();
    expect(desk.loaded).toBe(1);
    letGo();
    await until("the second", () => desk.changed === 2);
    letGo();
    await desk.reloads.settled();
    expect([desk.loaded, desk.changed]).toEqual([2, 2]);
  });

  it("sets the level of the log, and says what cannot change", async () => {
    const desk = await new Desk().open(async () => configuration({ logLevel: "warn", logFormat: "pretty" }));
    desk.reloads.request();
    await desk.reloads.settled();
    expect(desk.said(/another log-format needs a restart/)).toBe(true);
    expect(desk.said(/the configuration is loaded/)).toBe(false);
  });

  it("without a file is nothing to do, and is said", async () => {
    const desk = await new Desk().open(async () => configuration(), { first: { file: undefined } });
    desk.reloads.request();
    await desk.reloads.settled();
    expect(desk.loaded).toBe(0);
    expect(desk.said(/no file to reload/)).toBe(true);
  });
});
