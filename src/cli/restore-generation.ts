/**
 * Chooses the generation of a cluster that a restore reads. A moment can be found in any of them. LSNs, transaction IDs and
 * restore points belong to one server, so these targets, and the archive's end, mean the newest generation.
 */
import { resolvePlan, type PlanWish } from "../restore/target/resolve.ts";
import { hasCode, SeawallError } from "../errors.ts";
import type { RequestOptions } from "../store/store.ts";
import { findGenerationOf, type OpenGeneration, type OpenGenerations } from "./with-archive.ts";

/** Throws `target-unreachable` and `backup-absent`, with what each generation says, and what resolving a target throws. */
export async function chooseGeneration(
  generations: OpenGenerations,
  wish: PlanWish,
  options: RequestOptions,
): Promise<OpenGeneration> {
  const { named } = generations;
  const newest = named.at(-1);
  if (newest === undefined) throw new SeawallError("internal", "a cluster without a generation");
  if (named.length === 1) return newest;
  if (wish.backupId !== undefined) {
    const { archive } = await findGenerationOf(generations, wish.backupId, options);
    return named.find((one) => one.archive.cluster === archive.cluster) ?? newest;
  }
  const candidates = wish.target.point.kind === "time" ? named.toReversed() : [newest];
  const refusals: { readonly name: string; readonly error: SeawallError }[] = [];
  for (const candidate of candidates) {
    try {
      await resolvePlan(candidate.archive, { ...wish, generation: candidate.generation.name }, options);
      return candidate;
    } catch (error) {
      if (!(error instanceof SeawallError) || !hasCode(error, "target-unreachable", "backup-absent")) throw error;
      refusals.push({ name: candidate.generation.name, error });
    }
  }
  throw refusal(refusals, named);
}

function refusal(
  refusals: readonly { readonly name: string; readonly error: SeawallError }[],
  named: readonly OpenGeneration[],
): SeawallError {
  const [first, ...others] = refusals;
  if (first === undefined) throw new SeawallError("internal", "no generation was asked");
  const { code, message, hint, cause } = first.error;
  const asked = others.map(({ name, error }) => `${name}: ${error.message}. ${error.hint}`);
  const older = named
    .slice(0, -1)
    .map(({ generation: { name, identity } }) => `--cluster ${name} (PostgreSQL ${identity.pgMajor})`);
  const unasked = others.length > 0 ? [] : [`Older generations: ${older.join(", ")}.`];
  return new SeawallError(code, `${first.name}: ${message}`, { cause, hint: [hint, ...asked, ...unasked].join(" ") });
}
