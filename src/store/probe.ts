/**
 * Does a store do what Seawall needs? Tried out with one small object, because an S3 server that does not know
 * If-None-Match ignores it, and says so nowhere: it would overwrite in silence.
 */
import { SeawallError } from "../errors.ts";
import { type RequestOptions, type Store } from "./store.ts";

export interface ProbeStep {
  readonly what: "create" | "create only if absent" | "read" | "list" | "delete";
  /** Undefined: it works. */
  readonly error: SeawallError | undefined;
}

/**
 * Every step in order, also after one that failed as far as it makes sense. `key` must be new and nobody else's; it is
 * deleted at the end. Rejects only with `aborted`.
 */
export async function probeStore(store: Store, key: string, options: RequestOptions = {}): Promise<ProbeStep[]> {
  const [first, second] = [Buffer.from("first"), Buffer.from("second")];
  const steps: ProbeStep[] = [];
  const step = async (what: ProbeStep["what"], work: () => Promise<string | undefined>): Promise<void> => {
    steps.push({ what, error: await failureOf(work, store) });
  };
  await step("create", async () => {
    const result = await store.put(key, first, options);
    return result === "created" ? undefined : `the new key ${key} is said to exist`;
  });
  if (steps[0]?.error === undefined) {
    await step("create only if absent", async () => {
      const result = await store.put(key, second, options);
      return result === "exists" ? undefined : "a second write of a key was accepted: it overwrites";
    });
    await step("read", async () => {
      const found = await store.get(key, options);
      const body = Buffer.from(found?.body ?? []);
      return body.equals(first) || body.equals(second) ? undefined : "what was written is not what is read";
    });
  }
  await step("list", async () => {
    for await (const info of store.list(key, options)) if (info.key === key) return undefined;
    return steps[0]?.error === undefined ? "an object that was written is not listed" : undefined;
  });
  await step("delete", async () => {
    await store.delete([key], options);
    return undefined;
  });
  return steps;
}

async function failureOf(work: () => Promise<string | undefined>, store: Store): Promise<SeawallError | undefined> {
  try {
    const problem = await work();
    return problem === undefined
      ? undefined
      : new SeawallError("store-unsupported", `${problem} (${store.description})`, {
          hint: "Use a store that honours If-None-Match: * on PUT and lists what it has stored.",
        });
  } catch (error) {
    if (error instanceof SeawallError && error.code !== "aborted") return error;
    throw error;
  }
}
