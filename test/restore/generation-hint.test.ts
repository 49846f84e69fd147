/** The hints of a refused restore of a cluster that was upgraded, over an archive of a real server. */
import { expect, test } from "vitest";
import { readGenerations } from "../../src/archive/generations.ts";
import { declareSuccessor, planSuccessor } from "../../src/archive/successor.ts";
import { chooseGeneration } from "../../src/cli/restore-generation.ts";
import { SeawallError } from "../../src/errors.ts";
import { resolvePlan } from "../../src/restore/target/resolve.ts";
import { parseTarget } from "../../src/restore/target/target.ts";
import { copyOf, realArchive } from "../archive/damaged.ts";

/** Behind the last commit of the older server. */
const wish = { target: parseTarget({ time: "2099-01-01T00:00:00Z" }, 0) };

async function hintOf(planning: Promise<unknown>): Promise<string> {
  const error: unknown = await planning.catch((reason: unknown) => reason);
  if (error instanceof SeawallError) return error.hint;
  throw new Error("was not refused");
}

test("a moment between the old server's last commit and the new server's first backup: the hint names the old generation", async () => {
  const { archive, store } = await copyOf((await realArchive()).objects);
  expect(await hintOf(resolvePlan(archive, wish))).toMatch(/in between, --target latest restores the same state/);

  const { codec } = archive;
  const readNow = () => Promise.resolve(new Date("2099-01-01T00:00:00Z"));
  const successor = { ...archive.identity, systemIdentifier: archive.identity.systemIdentifier + 1n };
  const plan = await planSuccessor(store, "main", successor, { force: true, readNow, codec });
  if (plan.kind !== "successor") throw new Error("it is the newest already");
  await declareSuccessor(store, plan, successor, { codec });
  const all = (await readGenerations(store, "main")).map((generation) => {
    return { generation, archive: { ...archive, cluster: generation.folder, identity: generation.identity } };
  });
  const hint = await hintOf(chooseGeneration({ all, named: all }, wish, {}));
  expect(hint).toContain("in between, --cluster main@1 --target latest restores the same state");
  const elsewhere = { target: parseTarget({ time: "2099-01-01T00:00:00Z", timeline: "7" }, 0) };
  expect(await hintOf(chooseGeneration({ all, named: all }, elsewhere, {}))).toMatch(
    /try --cluster main@1 --target-timeline \d/,
  );
}, 240_000);
