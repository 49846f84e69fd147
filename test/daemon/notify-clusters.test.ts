/** Several clusters that notify: a hook that hangs holds up no other cluster, and a reload changes the receivers of messages only. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { StatusOverview } from "../../src/daemon/status/document.ts";
import { until } from "../campaigns/campaign.ts";
import { startPostgres } from "../harness/postgres.ts";
import { startCli } from "../harness/process.ts";
import { addressOf, Hooked } from "./hooked.ts";

let hooked: Hooked;
beforeAll(async () => void (hooked = await Hooked.start()));
afterAll(() => hooked[Symbol.dispose]());

test("one cluster's hanging hook holds up neither another cluster nor the stop, and a reload replaces it", async () => {
  await using server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
  const hanging = join(hooked.dir, "hanging.sh");
  writeFileSync(hanging, "#!/bin/sh\nsleep 300\n");
  chmodSync(hanging, 0o755);
  const config = join(hooked.dir, "seawall.yaml");
  const write = (ofOne: string): void => {
    const member = (name: string, hook: string): string[] => [
      `  ${name}:`,
      `    dsn: ${server.dsn}`,
      `    store: file://${hooked.dir}/${name}`,
      `    slot: ${name}`,
      `    ${hook}`,
    ];
    const common = [
      "listen: 127.0.0.1:0",
      "log-format: json",
      "notify-after: 1s",
      "reconnect-max-delay: 200ms",
      "clusters:",
    ];
    writeFileSync(
      config,
      [...common, ...member("one", ofOne), ...member("two", `notify-url: ${hooked.url}`), ""].join("\n"),
    );
  };
  for (const name of ["one", "two"]) mkdirSync(join(hooked.dir, name));
  write(`notify-command: ${hanging}`);
  await using daemon = startCli(["receive", "--config", config]);
  const address = await addressOf(daemon);
  const clusters = async (): Promise<StatusOverview["clusters"]> =>
    ((await (await fetch(`http://${address}/status.json`)).json()) as StatusOverview).clusters;
  const allStream = async (): Promise<boolean> => (await clusters()).every(({ state }) => state === "streaming");
  await until("both streams", allStream, 60_000);

  await server.stop("immediate");
  await until("the second cluster's message", () => hooked.count("two", "receiver-stalled") === 1, 30_000);
  await until(
    "the first cluster's, which waits",
    async () => (await clusters())[0]?.notifications?.channels[0]?.waiting === 1,
  );
  await server.start();
  await until("both streams again", allStream, 60_000);
  await until("the second cluster's end of it", () => hooked.count("two", "receiver-recovered") === 1, 30_000);
  const before = (await clusters()).map(({ streamingSince }) => streamingSince);

  write(`notify-url: ${hooked.url}`);
  daemon.signal("SIGHUP");
  const line = await daemon.waitForLine(/"msg":"the configuration is loaded"/);
  expect(JSON.parse(line)).toMatchObject({ rescheduled: ["one"], untouched: ["two"], restarted: [] });
  expect((await clusters()).map(({ streamingSince }) => streamingSince)).toEqual(before);
  // What the old hook never took goes to the new one: the outage, then its end.
  await until("what waited", () => hooked.eventsOf("one").length === 2, 30_000);
  expect(hooked.eventsOf("one")).toEqual(["receiver-stalled", "receiver-recovered"]);
  await server.stop("immediate");
  await until(
    "messages of both",
    () => hooked.count("one", "receiver-stalled") === 2 && hooked.count("two", "receiver-stalled") === 2,
    30_000,
  );
  expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
}, 120_000);
