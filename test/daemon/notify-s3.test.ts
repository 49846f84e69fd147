/** A store that is away, with a real server and a real S3: what is told of it, streamed into it or through a spool. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { startPostgres } from "../harness/postgres.ts";
import { startS3 } from "../harness/s3.ts";
import { startProxy } from "../store/scripted-s3.ts";
import { Hooked, statusOf, streaming } from "./hooked.ts";

const s3 = await startS3();
interface Asked {
  readonly method: string;
}

let hooked: Hooked;
beforeAll(async () => void (hooked = await Hooked.start()));
afterAll(() => hooked[Symbol.dispose]());

describe.skipIf(!s3.available)(`with S3${s3.available ? "" : ` (${s3.reason})`}`, () => {
  it.each([
    ["that takes no more writes", "not-storing", [], ({ method }: Asked) => method === "PUT"],
    ["that answers nothing at all, behind a spool", "not-uploading", ["--durability", "spool"], () => true],
  ] as const)(
    "a store %s is told as %s while the server is streamed from, and its return",
    async (_name, kind, flags, isAway) => {
      const cluster = kind.replace("-", "_");
      let away = false;
      await using bucket = await s3.bucket();
      await using proxy = await startProxy(s3.endpoint, (asked) =>
        away && isAway(asked) ? { kind: "answer", answer: { status: 503 } } : undefined,
      );
      await using server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
      const url = bucket.url.replace(encodeURIComponent(s3.endpoint), encodeURIComponent(proxy.endpoint));
      const spool = join(hooked.dir, `${cluster}-spool`);
      mkdirSync(spool);
      const place = [
        "--store",
        url,
        "--ship-interval",
        "100ms",
        // On a busy machine the start alone takes longer than a second.
        "--notify-after",
        "15s",
        ...flags,
        ...(flags.length === 0 ? [] : ["--spool-dir", spool]),
      ];
      await using daemon = hooked.daemon(server, cluster, place, s3.env);
      const address = await streaming(daemon);
      away = true;
      await server.sql("CREATE TABLE while_away (i int)");
      await until("the outage", () => hooked.count(cluster, "receiver-stalled") === 1, 60_000);
      expect((await statusOf(address)).state).toBe("streaming");
      expect(hooked.bodyOf(cluster, "receiver-stalled")).toMatchObject({
        details: { kind, code: expect.stringMatching(/^store-/) as unknown },
      });
      away = false;
      await until("its end", () => hooked.count(cluster, "receiver-recovered") === 1, 60_000);
      expect(hooked.eventsOf(cluster)).toEqual(["receiver-stalled", "receiver-recovered"]);
      expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
    },
    120_000,
  );
});
