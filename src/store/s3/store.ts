/**
 * A bucket as a store. Opens it with the first call, and loads what needs the AWS SDK (objects.ts) only then: importing the
 * SDK takes longer than a command takes that never asks the bucket.
 */
import { isAbort } from "../../errors.ts";
import { sharedController } from "../../signals.ts";
import { checkCrc32c } from "../crc.ts";
import { checkFolder, checkKey, checkPrefix, checkRange } from "../key.ts";
import { abortedError, throwIfAborted, waitFor } from "../signal.ts";
import { objectsOf, type Store } from "../store.ts";
import type { S3Objects, S3StoreOptions } from "./objects.ts";
import type { S3Settings } from "./url.ts";

/** Opens nothing; the account is looked for at the first call. */
export function s3Store(settings: S3Settings, options: S3StoreOptions): Store {
  const closing = sharedController();
  let opening: Promise<S3Objects> | undefined;
  let opened: S3Objects | undefined;

  const enter = async (signal: AbortSignal | undefined): Promise<S3Objects> => {
    throwIfAborted(signal);
    if (closing.signal.aborted) throw abortedError(new Error("the store is closed"));
    if (opened !== undefined) return opened;
    const current = (opening ??= open(settings, options));
    try {
      opened = await waitFor(current, { signals: [signal, closing.signal] });
      return opened;
    } catch (error) {
      if (opening === current && !isAbort(error)) opening = undefined;
      throw error;
    }
  };
  const listPages: Store["listPages"] = async function* (prefix, options = {}) {
    checkPrefix(prefix);
    yield* (await enter(options.signal)).listPages(prefix, options);
  };
  return {
    description: `s3://${settings.bucket}/${settings.prefix.slice(0, -1)}`,
    put: async (key, body, options = {}) => {
      checkKey(key);
      if (options.crc32c !== undefined) checkCrc32c(key, body, options.crc32c);
      return (await enter(options.signal)).put(key, body, options);
    },
    putStream: async (key, body, options = {}) => {
      checkKey(key);
      return (await enter(options.signal)).putStream(key, body, options);
    },
    get: async (key, options = {}) => {
      checkKey(key);
      if (options.range !== undefined) checkRange(options.range);
      return (await enter(options.signal)).get(key, options);
    },
    getStream: async (key, options = {}) => {
      checkKey(key);
      return (await enter(options.signal)).getStream(key, options);
    },
    head: async (key, options = {}) => {
      checkKey(key);
      return (await enter(options.signal)).head(key, options);
    },
    list: (prefix, options) => objectsOf(listPages(prefix, options)),
    listPages,
    listPrefixes: async (prefix, options = {}) => {
      checkFolder(prefix);
      return (await enter(options.signal)).listPrefixes(prefix, options);
    },
    replaceFront: async (key, replacement, options = {}) => {
      checkKey(key);
      return (await enter(options.signal)).replaceFront(key, replacement, options);
    },
    delete: async (keys, options = {}) => {
      keys.forEach(checkKey);
      await (await enter(options.signal)).delete(keys, options);
    },
    close: async () => {
      closing.abort();
      // Not awaited: a source of credentials may hang for ever.
      void opening?.then(
        (objects) => objects.close(),
        () => undefined,
      );
      await Promise.resolve();
    },
  };
}

/** Reads files and asks no service. */
async function open(settings: S3Settings, options: S3StoreOptions): Promise<S3Objects> {
  // The SDK's note on Node.js versions would land between our log lines; package.json says which ones we support.
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";
  const { S3Objects } = await import("./objects.ts");
  return S3Objects.open(settings, options);
}
