/**
 * Copies beside production: drills, recovered copies, restored standbys that are promoted by mistake, second receivers,
 * archive_command of copies, new tablespaces and databases, subscriptions, failovers that recycle first segments, at random.
 * After each round production's archive restores every acknowledged commit and nothing else, production goes on archiving
 * without a hand's help, and its files, slots and subscribers are as they were.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { type PostgresServer, startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import type { PostgresVersion } from "../harness/postgres-binaries.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import type { CliProcess } from "../harness/process.ts";
import type { Random } from "../harness/random.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { recovered } from "../restore/servers.ts";
import { campaignRandom, FULL, minutes, report, until } from "./campaign.ts";
import { COPY_ROW, type Point, Production, SETTINGS } from "./copies-world.ts";

/** Rounds that one production lives through before the next one begins. */
const ROUNDS_A_LIFE = 10;

interface Scene {
  readonly production: Production;
  readonly subscriber: Subscriber;
  readonly random: Random;
  /** Moments of production's current timeline. */
  readonly points: Point[];
}

type Event = (scene: Scene) => Promise<void>;

const EVENTS: Readonly<Record<string, Event>> = {
  "a drill to the tip": async ({ production }) => drill(production, []),
  "a drill to an earlier point": async ({ production, points, random }) =>
    drill(production, ["--target-lsn", random.pick(points).lsn]),
  "a copy to an earlier point, with a receiver and its archive_command": async ({ production, points, random }) => {
    await using copy = await production.restored([], copySettings(), { point: random.pick(points) });
    await archiveFrom(production, copy, random);
  },
  "two copies of the same timeline, one after the other": async ({ production, points, random }) => {
    const timeline = await timelineOf(production.server);
    for (let copies = 0; copies < 2; copies++) {
      const flags = ["--target-timeline", timeline];
      await using copy = await production.restored(flags, copySettings(), { point: random.pick(points) });
      await archiveFrom(production, copy, random);
    }
  },
  "a copy of everything that stays isolated": async ({ production }) => {
    // Nothing reaches it, a test's connection neither: its log says when it has recovered.
    await using copy = await production.restored(["--isolate"], {}, { start: false });
    await copy.start({ wait: false });
    await until("the end of recovery", () => /database system is ready to accept connections/.test(copy.log()));
  },
  "a restored standby that is promoted by mistake": async ({ production, random }) => {
    const settings = { ...copySettings(), primary_conninfo: production.server.socketDsn };
    await using standby = await production.restored(["--standby"], settings);
    await sleep(random.between(0, 500));
    await archiveFrom(production, standby, random, async () => void (await standby.promote()));
  },
  "a copied standby that is promoted by mistake": async ({ production, random }) => {
    await using standby = await production.server.cloneAsStandby({ settings: copySettings() });
    await sleep(random.between(0, 500));
    await archiveFrom(production, standby, random, async () => void (await standby.promote()));
  },
  "a second receiver of production": async ({ production, random }) => {
    await using second = production.receiverFor(production.server, ["--slot", "second"]);
    await sleep(random.between(500, 2000));
    await second.end(random.pick(["SIGKILL", "SIGTERM"]));
    await until("the second walsender's end", async () => {
      const active = "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = 'second' AND active";
      return (await production.server.value(active)) === "0";
    });
    await production.server.sql(
      "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'second'",
    );
  },
  "a new tablespace": async ({ production, random }) => {
    if (production.tablespaces.size < 4) await tablespace(production, random.chance(0.5));
    await drill(production, []);
  },
  "a drill of the subscriber": async ({ subscriber }) => subscriber.drillWhileAway(),
  "a failover to a standby that has recycled its first segments": failover,
  "a backup": async ({ production }) => production.backup(),
};

describe.each(versionsUnderTest())("PostgreSQL %i", (version) => {
  test(
    "copies of production harm neither its archive nor its files, slots and subscribers",
    async () => {
      const random = campaignRandom("copies beside production", 900 + version);
      const count = roundsOnEach();
      const totals = { version, rounds: 0, lives: 0, events: 0, rows: 0 };
      while (totals.rounds < count) {
        totals.lives++;
        const left = Math.min(ROUNDS_A_LIFE, count - totals.rounds);
        totals.rounds += left;
        const { events, rows } = await live(version, random, left);
        totals.events += events;
        totals.rows += rows;
        report("copies beside production, so far", totals);
      }
      report("copies beside production", totals);
    },
    minutes(180),
  );
});

/** Rounds on each version: 100 in a full run; otherwise so few that each kind of event comes up on one of the versions. */
function roundsOnEach(): number {
  return FULL ? 100 : Math.ceil(Object.keys(EVENTS).length / versionsUnderTest().length);
}

/** The kinds of event that have yet to come up before one comes up again, on whatever version. */
const left: string[] = [];

/** One production over some rounds. */
async function live(
  version: PostgresVersion,
  random: Random,
  count: number,
): Promise<{ readonly events: number; readonly rows: number }> {
  await using production = await Production.begin(version, { pushes: random.chance(0.4) });
  await using subscriber = await Subscriber.begin(production);
  await production.commit(5);
  await production.backup();
  if (random.chance(0.5)) await tablespace(production, random.chance(0.5));
  let events = 0;
  for (let round = 0; round < count; round++) {
    if (left.length < 2) left.push(...shuffled(random, Object.keys(EVENTS)));
    const chosen = left.splice(0, random.between(1, 2));
    const story = `PostgreSQL ${version}, seed ${random.seed}, round ${round}: ${chosen.join(", then ")}`;
    try {
      await roundOf({ production, subscriber, random, points: [] }, chosen);
    } catch (error) {
      throw new Error(story, { cause: error });
    }
    events += chosen.length;
  }
  return { events, rows: production.rows.size };
}

async function roundOf(scene: Scene, chosen: readonly string[]): Promise<void> {
  const { production, subscriber, points, random } = scene;
  for (let i = 0; i < 3; i++) {
    await production.commit(2);
    points.push(await production.point());
  }
  await production.rememberFiles();
  const slots = await production.slots();
  production.trickle();
  for (const name of chosen) await EVENTS[name]?.(scene);
  await production.rest();
  expect(production.changedFiles(), "files of production that a copy changed").toEqual([]);
  expect(await production.slots(), "slots of production").toEqual(slots);
  if (random.chance(0.5)) await comeBack(production, random);
  await production.commit(3);
  production.refuseDeadReceiver();
  await subscriber.expectAll();
  await expectArchive(production);
}

/** A minor upgrade of the server, or a receiver that dies and is started again: nothing else is done for them. */
async function comeBack(production: Production, random: Random): Promise<void> {
  if (random.chance(0.5)) {
    await production.server.restart();
    return;
  }
  await production.killReceiver();
  await production.receive();
}

/** Restores production's archive as an operator would who wants all of it. */
async function expectArchive(production: Production): Promise<void> {
  await using server = await production.restored([]);
  await recovered(server);
  const rows = (await server.sql("SELECT row FROM load")).map(({ row }) => Number(row));
  const there = new Set(rows);
  expect(
    [...production.rows].filter((row) => !there.has(row)),
    "acknowledged rows that are lost",
  ).toEqual([]);
  expect(
    rows.filter((row) => row <= COPY_ROW),
    "rows of a copy in production's archive",
  ).toEqual([]);
  for (const name of production.tablespaces.keys()) {
    expect(await server.value(`SELECT string_agg(DISTINCT owner, ',') FROM ${name}`)).toBe("still production");
  }
}

/** What a copy does that believes it is production: it writes, its receiver runs, and its files are pushed. */
async function archiveFrom(
  production: Production,
  copy: PostgresServer,
  random: Random,
  promote: () => Promise<void> = async () => undefined,
): Promise<void> {
  await promote();
  await recovered(copy);
  await copy.sql(`INSERT INTO load VALUES (${COPY_ROW})`);
  await copy.sql("SELECT pg_switch_wal()");
  if (random.chance(0.7)) await receiveFrom(production, copy, random);
  if (random.chance(0.7)) await pushFrom(production, copy);
  await copy.sql(`INSERT INTO load VALUES (${COPY_ROW - 1})`);
}

/** With production's own options, flags for a takeover excluded; how it ends is its own affair. */
async function receiveFrom(production: Production, copy: PostgresServer, random: Random): Promise<void> {
  await using receiver: CliProcess = production.receiverFor(copy);
  await Promise.race([receiver.ended(60_000), sleep(random.between(1000, 4000))]);
}

async function pushFrom(production: Production, copy: PostgresServer): Promise<void> {
  const names = await copy.sql(
    "SELECT name FROM pg_ls_dir('pg_wal') AS name WHERE name ~ '^[0-9A-F]{8}([0-9A-F]{16}(\\.partial)?|\\.history)$' ORDER BY 1",
  );
  const current = await copy.value("SELECT pg_walfile_name(pg_current_wal_lsn())");
  const history = names.map(({ name }) => String(name)).filter((name) => name.endsWith(".history"));
  const segments = names.map(({ name }) => String(name)).filter((name) => name.startsWith(current.slice(0, 8)));
  for (const name of [
    ...history,
    ...segments.filter((each) => each < current && !each.endsWith(".history")).slice(-2),
  ]) {
    await production.seawall(["wal-push", join(copy.walDir, name)]);
  }
}

async function drill(production: Production, flags: readonly string[]): Promise<void> {
  const command = serverRestoreCommand(["--store", production.url, "--store-retry-for", "5s"]);
  const where = ["--scratch-dir", production.scratchDir, "--pg-bin", production.server.binDir];
  await production.ask(["drill", ...where, "--restore-command", command, ...flags]);
}

async function tablespace(production: Production, database: boolean): Promise<void> {
  await production.makeTablespace(`late${production.tablespaces.size + 1}`, { database });
  await production.rememberFiles();
}

/**
 * Production and its receiver die at once; a standby that has everything is promoted and works until the first segments of
 * its timeline are recycled; then the receiver is started on it, and the next backup is taken.
 */
async function failover({ production, subscriber, random, points }: Scene): Promise<void> {
  await production.rest();
  const old = production.server;
  const standby = await old.cloneAsStandby({ settings: { synchronous_standby_names: "" } });
  await until("the standby to have all", async () => {
    const lsn = await production.flushLsn();
    return (await standby.value(`SELECT (pg_last_wal_replay_lsn() >= '${lsn}')::text`)) === "true";
  });
  await production.killReceiver();
  if (random.chance(0.5)) await old.kill9();
  else await old.stop("immediate");
  await standby.promote();
  const segments = random.pick([0, 1, 12]);
  for (let i = 0; i < segments; i++) {
    await standby.sql("SELECT pg_logical_emit_message(false, 'fill', repeat('f', 700000)); SELECT pg_switch_wal()");
  }
  if (segments > 0) await standby.sql("CHECKPOINT");
  if (segments > 0) await standby.sql("CHECKPOINT");
  await production.moveTo(standby);
  await subscriber.follow(standby);
  await production.backup();
  await production.commit(3);
  points.splice(0, points.length, await production.point());
  await production.rememberFiles();
  production.trickle();
}

async function timelineOf(server: PostgresServer): Promise<string> {
  const name = await server.value("SELECT pg_walfile_name(pg_current_wal_lsn())");
  return String(Number.parseInt(name.slice(0, 8), 16));
}

/** A copy does not wait for a receiver that it has not got. */
function copySettings(): Readonly<Record<string, string | number>> {
  return { synchronous_standby_names: "", max_logical_replication_workers: 0 };
}

function shuffled(random: Random, names: readonly string[]): string[] {
  const rest = [...names];
  const order: string[] = [];
  while (rest.length > 0) order.push(...rest.splice(random.between(0, rest.length - 1), 1));
  return order;
}

/** A subscriber of production with an archive of its own. */
class Subscriber implements AsyncDisposable {
  readonly #production: Production;
  readonly #server: PostgresServer;
  readonly #folder: string;
  #published = 0;

  private constructor(production: Production, server: PostgresServer, folder: string) {
    this.#production = production;
    this.#server = server;
    this.#folder = folder;
  }

  static async begin(production: Production): Promise<Subscriber> {
    const folder = makeTempDir("subscriber");
    giveToServer(folder, 0o755);
    for (const name of ["store", "scratch"]) {
      mkdirSync(join(folder, name));
      giveToServer(join(folder, name), 0o755);
    }
    const { version } = production;
    const server = await startPostgres({ version, segmentSizeMiB: 1, freshIdentifier: true, settings: SETTINGS });
    await server.sql("CREATE TABLE published (row int PRIMARY KEY)");
    await server.sql(`CREATE SUBSCRIPTION sub CONNECTION '${production.server.socketDsn}' PUBLICATION pub`);
    return new Subscriber(production, server, folder);
  }

  /** Rows are published while the subscriber is away; a drill of its archive must leave them for it. */
  async drillWhileAway(): Promise<void> {
    const url = `file://${join(this.#folder, "store")}`;
    await this.#publish(2);
    await this.expectAll();
    await this.#production.ask(["backup", "--with-wal", "--dsn", this.#server.dsn, "--checkpoint", "fast"], url);
    await this.#server.stop();
    await this.#publish(3);
    const command = serverRestoreCommand(["--store", url]);
    const where = ["--scratch-dir", join(this.#folder, "scratch"), "--pg-bin", this.#server.binDir];
    const ask = ["--sql", "SELECT pg_sleep(2) IS NOT NULL"];
    await this.#production.ask(["drill", ...where, ...ask, "--restore-command", command], url);
    await this.#server.start();
  }

  /** Production has moved: the new publisher has no slot of this subscription yet. */
  async follow(server: PostgresServer): Promise<void> {
    await this.#server.sql("ALTER SUBSCRIPTION sub DISABLE");
    await this.#server.sql("ALTER SUBSCRIPTION sub SET (slot_name = NONE)");
    await this.#server.sql("DROP SUBSCRIPTION sub");
    await this.#server.sql("TRUNCATE published");
    await this.#server.sql(`CREATE SUBSCRIPTION sub CONNECTION '${server.socketDsn}' PUBLICATION pub`);
  }

  async expectAll(): Promise<void> {
    await this.#publish(1);
    await until(`${this.#published} published rows to arrive`, async () => {
      return (await this.#server.value("SELECT count(*)::text FROM published")) === String(this.#published);
    });
  }

  async #publish(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      await this.#production.server.sql(`INSERT INTO published VALUES (${++this.#published})`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
    removeTree(this.#folder);
  }
}
