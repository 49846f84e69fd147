/** From one address to the next while the daemon runs. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ListenAddress } from "../../src/config/types.ts";
import { Doors } from "../../src/daemon/http/listener.ts";
import type { Site } from "../../src/daemon/http/site.ts";
import { silentLog } from "../../src/log.ts";
import { freePort } from "../harness/postgres-process.ts";

const SITE: Site = {
  several: true,
  version: "1.2.3",
  names: () => [],
  configuration: () => null,
  clusters: () => [],
  metrics: async () => ({ contentType: "text/plain", text: "up 1\n" }),
};

let port: number;
let doors: Doors;
beforeEach(async () => {
  port = await freePort();
  doors = new Doors(silentLog);
  await doors.open(on("127.0.0.1"), SITE);
});
afterEach(() => doors.close());

const on = (host: string): ListenAddress => ({ kind: "tcp", host, port });

async function answers(): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}/metrics`).then(
    ({ ok }) => ok,
    () => false,
  );
}

test("from one interface to all of them and back, on the same port", async () => {
  await doors.change(on("0.0.0.0"));
  expect(await answers()).toBe(true);
  await doors.change(on("127.0.0.1"));
  expect(await answers()).toBe(true);
});

test("an address of this port that cannot be had leaves the one there is", async () => {
  // RFC 5737: an address for documentation, which no machine has.
  await expect(doors.change(on("192.0.2.1"))).rejects.toMatchObject({ code: "listen-failed" });
  expect(await answers()).toBe(true);
  await doors.change({ kind: "off" });
  expect(await answers()).toBe(false);
});
